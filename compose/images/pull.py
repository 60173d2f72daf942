"""Official images: on the engine already, or pulled; and registries that do not answer."""

from __future__ import annotations

import re
import selectors
import subprocess

from compose.images.engine import labels, last_line

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
        ask: False to use no official image, present or not.
    """

    def __init__(self, ask: bool = True) -> None:
        self._ask = ask
        self._unreachable: dict[str, str] = {}

    def get(self, image: str) -> str | None:
        """Have an image on the engine; None when it is there, else why it is not."""
        if not self._ask:
            return "stand-ins were asked for"
        if labels(image) is not None:
            return None
        host = registry(image)
        if host in self._unreachable:
            return self._unreachable[host]
        failure = pull(image)
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
