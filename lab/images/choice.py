"""Every image of the replica on the engine: official where it is or can be pulled, else built."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from lab.images import build, debian, env_file
from lab.images.catalogue import (
    BACKEND_IMAGE,
    BACKEND_VARIABLE,
    OFFICIAL,
    PYTHON,
    PYTHON_VERSION,
)
from lab.images.engine import architecture, digest
from lab.images.pull import Registries
from lab.stack.compose.images import CHOSEN


def choose(registries: Registries) -> dict[str, str | None]:
    """Every official image, and why it is not on the engine (None: it is)."""
    return {name: registries.get(name) for name in (*(i.official for i in OFFICIAL), PYTHON)}


def have_images(registries: Registries, say: Callable[[str], None]) -> dict[str, str]:
    """Have all images, and write the env file; where each came from, by its tag.

    Args:
        registries: gets the official images.
        say: told what was built, and how long it took; and what follows from an older base.

    Raises:
        MissingComponent: no engine answers, or what stand-ins are made with is not here.
        PartFailed: an image could not be built.
    """
    engine = architecture()
    missing = choose(registries)
    stand_ins = [image for image in OFFICIAL if missing[image.official]]
    with ThreadPoolExecutor() as threads:

        def start(what: str, work: Callable[..., Any], *values: Any) -> Future[Any]:
            return threads.submit(_timed, say, what, work, *values)

        base = None
        if missing[PYTHON] or any(map(build.based, stand_ins)):
            base = start("debian", debian.base, engine)
        work = [start(i.name, build.stand_in, i, engine, base) for i in stand_ins]
        work.append(start("backend", build.backend, engine, base if missing[PYTHON] else None))
        for future in work:
            future.result()
    chosen = {i.variable: i.stand_in if missing[i.official] else i.official for i in OFFICIAL}
    env_file.write(CHOSEN, {**chosen, BACKEND_VARIABLE: BACKEND_IMAGE})
    if base and (older := base.result()) != debian.RELEASES[0]:
        say(
            f"{debian.RELEASES[0].suite} cannot be had: stand-ins are Debian {older.suite}, "
            f"and the backend runs on Python {older.python}, not {PYTHON_VERSION}"
        )
    return origins(missing)


def _timed(say: Callable[[str], None], what: str, work: Callable[..., Any], *values: Any) -> Any:
    start = time.monotonic()
    result = work(*values)
    say(f"{time.monotonic() - start:6.1f} s  {what}")
    return result


def _official(image: str) -> str:
    return ", ".join(filter(None, ["official", digest(image)]))


def origins(missing: dict[str, str | None]) -> dict[str, str]:
    """Where each image came from, by its tag."""
    on = f"a stand-in for {PYTHON}, {missing[PYTHON]}" if missing[PYTHON] else PYTHON
    return {
        **{
            i.stand_in if (reason := missing[i.official]) else i.official: (
                f"stands in for {i.official}, {reason}" if reason else _official(i.official)
            )
            for i in OFFICIAL
        },
        BACKEND_IMAGE: f"built on {on}",
    }
