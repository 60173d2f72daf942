"""Official images: on the engine already, or pulled; and registries that do not answer."""

from __future__ import annotations

import re
import selectors
import subprocess

from lab.images.engine import digest, docker, labels, last_line
from lab.stack.compose.image_lock import ImageLock

REACHED_S = 20
"""How long a registry may take to say that it has an image; the download may take longer."""

_ANSWERED = re.compile(r"manifest unknown|not found: manifest|denied|unauthorized|toomanyrequests")


def registry(image: str) -> str:
    """The registry that an image is named for: docker.io, where it names none."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first) else "docker.io"


class Registries:
    """Gets official images. A registry that cannot be reached is asked once.

    Args:
        lock: what images must be; one that it does not name is pinned when it is got.
        ask: False to use no official image, present or not.
    """

    def __init__(self, lock: ImageLock, ask: bool = True) -> None:
        self._lock, self._ask = lock, ask
        self._unreachable: dict[str, str] = {}

    def get(self, image: str) -> str | None:
        """Have an image on the engine; None when it is there, else why it is not.

        Raises:
            MachineError: it is there, and another than the lock says.
        """
        if not self._ask:
            return "stand-ins were asked for"
        failure = None if labels(image) is not None else self._pull(image)
        if failure is None:
            self._lock.check(image, digest(image))
            self._lock.record(image, digest(image))
        return failure

    def _pull(self, image: str) -> str | None:
        host = registry(image)
        if host in self._unreachable:
            return self._unreachable[host]
        pinned = self._lock.digest(image)
        wanted = f"{image.rpartition(':')[0]}@{pinned}" if pinned else image
        failure = pull(wanted)
        if failure is None and pinned:
            docker("tag", wanted, image)
        if failure and not _ANSWERED.search(failure):
            failure = f"{host} cannot be reached"
            self._unreachable[host] = failure
        return failure


def pull(image: str) -> str | None:
    """Pull an image; None when done, else what the engine said.

    The first line says that the registry has the image; only that is waited for with a limit.
    """
    with (
        subprocess.Popen(  # noqa: S603 - the engine's own client
            ["docker", "pull", image],  # noqa: S607 - wherever it is on PATH
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        if process.stdout is None:
            raise TypeError("the pipe that was asked for is there")
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(REACHED_S):
            process.kill()
            return f"no answer in {REACHED_S} s"
        _, said = process.communicate()
        return last_line(said) if process.returncode else None
