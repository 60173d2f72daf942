"""compose/images.lock: the digest of each official image, as it was when it was first pulled.

A tag can be pointed at another image; a digest names one alone. Whoever pulls first trusts the
registry once (``lab images`` writes the line); from then on, here and wherever the file is
checked in, the same image is pulled by its digest, and another one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.errors import MachineError, SpecError

LINE = re.compile(r"(?P<image>[^\s@]+:[^\s@]+)\s+(?P<digest>sha256:[0-9a-f]{64})")

HEAD = """\
# The digest of each official image, written when `lab images` first pulled it, and compared
# each time that a replica starts. Check this file in; remove a line to take an image anew.
"""


class ImageLock:
    """The digests that images must have, by name and tag.

    Args:
        path: what was got first is written there.
        shipped: more such files, which go before it: installed, the lab's own cannot be written.

    Raises:
        SpecError: a line is not an image and its digest.
    """

    def __init__(self, path: Path, *shipped: Path) -> None:
        self._path = path
        self._own = dict(_entries(path))
        self._digests = self._own | {
            image: digest for file in shipped for image, digest in _entries(file)
        }

    def digest(self, image: str) -> str | None:
        """What an image must be; None if it is not pinned."""
        return self._digests.get(image)

    def check(self, image: str, digest: str) -> None:
        """Compare an image with what it must be; one that is not pinned may be any.

        Args:
            digest: what it is; empty for one that no registry gave to this engine.

        Raises:
            MachineError: it is another.
        """
        pinned = self.digest(image)
        if pinned and digest != pinned:
            raise MachineError(
                f"the image {image} is {digest or 'of no registry'}, not {pinned} as "
                f"{self._path.name} says",
                f"`docker image rm {image}` and `lab images` get that one; "
                "or remove the line, if another is wanted",
            )

    def record(self, image: str, digest: str) -> None:
        """Pin an image that is not pinned yet."""
        if digest and image not in self._digests:
            self._digests[image] = self._own[image] = digest
            lines = [f"{name} {value}\n" for name, value in sorted(self._own.items())]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_name(f".{self._path.name}")
            draft.write_text(HEAD + "".join(lines), encoding="utf-8")
            draft.replace(self._path)


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line.strip())
        if found is None:
            raise SpecError(
                f"{path}:{number}: {line[:80]!r} is not an image and its digest",
                "write it like 'nginx:1.31.3 sha256:<64 hexadecimal digits>', or remove it",
            )
        yield found["image"], found["digest"]


def digest_of(image: str, repo_digests: Iterable[str]) -> str:
    """The digest under which a registry gave an image to an engine; empty if none did.

    Args:
        repo_digests: as the engine lists them: ``nginx@sha256:…``.
    """
    name = image.rpartition(":")[0]
    found = (entry.partition("@") for entry in repo_digests)
    return next((digest for repository, _, digest in found if repository == name), "")
