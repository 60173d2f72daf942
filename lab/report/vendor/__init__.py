"""What others wrote and a page carries with it, each file held by its hash.

To take a later version: `npm pack uplot`, copy the files, write the version, the package's
integrity as the registry tells it, and the files' hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Vendored:
    """A package, of which some files are in the folder of its name.

    Args:
        name: of the package in npm's registry.
        version: of which the files are.
        licence: SPDX's name of it; its text is the file ``LICENSE``.
        integrity: of the package's archive, as npm tells it.
        files: each with its SHA-256.
    """

    name: str
    version: str
    licence: str
    integrity: str
    files: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(__file__).parent / self.name


UPLOT = Vendored(
    name="uplot",
    version="1.6.32",
    licence="MIT",
    integrity="sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMas"
    "NuGGzQm/ep3tOkyTxpiQIw==",
    files=(
        ("uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
        ("uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
        ("LICENSE", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
    ),
)
"""Small charts of time series with a cursor and zoom."""


@cache
def text_of(package: Vendored, file: str) -> str:
    """A file of a package."""
    return (package.folder / file).read_text(encoding="utf-8")
