"""Where the files are that the lab comes with: beside the package, in a checkout."""

from __future__ import annotations

from pathlib import Path

from lab.errors import MissingComponent

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""


def data(*parts: str) -> Path:
    """A file or folder that the lab comes with: ``data("nginx", "site.conf.template")``.

    Raises:
        MissingComponent: it is not there.
    """
    path = ROOT.joinpath(*parts)
    if not path.exists():
        raise MissingComponent(
            f"{path}: no such file or folder, and the lab needs it",
            "run the lab from its checkout, and restore what is missing with `git checkout`",
        )
    return path
