"""Where the files are that the lab comes with, and those that it makes for this machine.

        in a checkout             from the wheel
data    the top-level folders     the same folders, in lab/data
made    at their places there     a folder of the user's, as ~/.local/share/replica-lab
"""

from __future__ import annotations

from pathlib import Path

from lab.errors import MissingComponent

_PACKAGE = Path(__file__).resolve().parent

CHECKOUT = _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else None
"""The checkout that the lab runs from; None where it was installed from its wheel."""

ROOT = CHECKOUT or _PACKAGE / "data"
"""The folder of the data."""

NEEDED = ("compose", "experiments", "faults", "nginx")
"""The data: what stands at the top of a checkout."""

RESTORE = "restore it with `git checkout`" if CHECKOUT else "install the lab's wheel again"
SETUP = "run `make setup`" if CHECKOUT else f"{RESTORE}, with its dependencies"
ENGINE = "`make engine` (Debian, root)" if CHECKOUT else "install Docker"
TOXIPROXY = "run `make toxiproxy`" if CHECKOUT else "lay one on PATH"
"""What mends a missing file of the lab's own, package, container engine, toxiproxy-server."""


def data(*parts: str) -> Path:
    """A file or folder that the lab comes with: ``data("nginx", "site.conf.template")``.

    Raises:
        MissingComponent: it is not there.
    """
    path = ROOT.joinpath(*parts)
    if not path.exists():
        raise MissingComponent(f"{path}: no such file or folder, and the lab needs it", RESTORE)
    return path


def made(*parts: str) -> Path:
    """Where a file is, or is to be, that the lab makes for this machine, once for all runs."""
    if CHECKOUT:
        return CHECKOUT.joinpath(*parts)
    from platformdirs import user_data_path  # in a checkout none needs it

    return user_data_path("replica-lab").joinpath(*parts)
