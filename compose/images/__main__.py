"""``python -m compose.images``: have every image of the replica on the engine.

Official images where they are or can be pulled, stand-ins elsewhere; ends with one line an
image on standard output, and with ``compose/.env``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from compose.images import build, debian, env_file
from compose.images.catalogue import (
    BACKEND_IMAGE,
    BACKEND_VARIABLE,
    OFFICIAL,
    PYTHON,
    PYTHON_VERSION,
)
from compose.images.engine import architecture, digest
from compose.images.pull import Registries
from lab.errors import Interrupted, LabError
from lab.stack.compose.image_lock import ImageLock
from lab.stack.compose.images import CHOSEN, LOCK

T = TypeVar("T")


def progress(text: str) -> None:
    """Say how far it is, on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def timed(what: str, work: Callable[..., T], *values: Any) -> T:
    """Do something and say how long it took."""
    start = time.monotonic()
    result = work(*values)
    progress(f"{time.monotonic() - start:6.1f} s  {what}")
    return result


def choose(registries: Registries) -> dict[str, str | None]:
    """Every official image, and why it is not on the engine (None: it is)."""
    return {name: registries.get(name) for name in (*(i.official for i in OFFICIAL), PYTHON)}


def main(arguments: list[str] | None = None) -> int:
    """Parse, build, and say what there is; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compose.images", description=__doc__)
    parser.add_argument("--stand-ins", action="store_true", help="use no official image")
    options = parser.parse_args(arguments)
    try:
        make(Registries(ImageLock(LOCK), ask=not options.stand_ins))
    except LabError as error:
        progress(f"images: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        progress("images: interrupted; run it again to go on")
        return Interrupted.exit_code
    return 0


def make(registries: Registries) -> None:
    """Have all images, write the env file, and print where each image came from."""
    engine = architecture()
    missing = choose(registries)
    stand_ins = [image for image in OFFICIAL if missing[image.official]]
    with ThreadPoolExecutor() as threads:

        def start(what: str, work: Callable[..., Any], *values: Any) -> Future[Any]:
            return threads.submit(timed, what, work, *values)

        base = None
        if missing[PYTHON] or any(map(build.based, stand_ins)):
            base = start("debian", debian.base, engine)
        work = [start(i.name, build.stand_in, i, engine, base) for i in stand_ins]
        work.append(start("backend", build.backend, engine, base if missing[PYTHON] else None))
        for future in work:
            future.result()
    chosen = {i.variable: i.stand_in if missing[i.official] else i.official for i in OFFICIAL}
    env_file.write(CHOSEN, {**chosen, BACKEND_VARIABLE: BACKEND_IMAGE})
    report(missing, base.result() if base else None)


def report(missing: dict[str, str | None], base: debian.Debian | None) -> None:
    """One line an image; and what follows from a base that is not the official images'."""
    for image in OFFICIAL:
        reason = missing[image.official]
        line = f"{image.stand_in}: stands in for {image.official}, {reason}"
        held = ", ".join(filter(None, ["official", "" if reason else digest(image.official)]))
        print(line if reason else f"{image.official}: {held}")  # noqa: T201
    on = f"a stand-in for {PYTHON}, {missing[PYTHON]}" if missing[PYTHON] else PYTHON
    print(f"{BACKEND_IMAGE}: built on {on}")  # noqa: T201
    if base and base != debian.RELEASES[0]:
        print(  # noqa: T201
            f"{debian.RELEASES[0].suite} cannot be had: stand-ins are Debian {base.suite}, "
            f"and the backend runs on Python {base.python}, not {PYTHON_VERSION}"
        )


if __name__ == "__main__":
    sys.exit(main())
