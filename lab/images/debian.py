"""The base of the stand-ins: a Debian like the official images' own, from its packages.

What the stand-ins and the backend need beyond a minimal Debian is in it, so that packages
are fetched once, by the host, and building on it needs no network. A stand-in whose program is a
package of Debian's is built on a base of its own, which holds that package alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field, replace

from lab.errors import MissingComponent, PartFailed
from lab.images.catalogue import VENDOR, recipe
from lab.images.engine import RECIPE, STANDS_FOR, VENDOR_LABEL, docker, last_line, made_from
from lab.stack.compose.images import ORIGIN_LABEL

PACKAGES = ("python3", "python3-pip", "gettext-base", "curl", "busybox-static")
LEFT_OUT = ("doc", "info", "locale", "man")
"""Folders of /usr/share that nothing here reads; Debian's slim images leave them out too."""
CUSTOMIZE = ('ln -s ../../bin/python3 "$1/usr/local/bin/python"',)
"""Done inside before it becomes an image: ``python``, as in the official Python image."""


@dataclass(frozen=True)
class Debian:
    """A release, and the Python that it has; or with one package in place of all.

    Args:
        suite: the release's name.
        python: version of its Python.
        package: what it holds beyond a minimal Debian, with what that needs; empty: `PACKAGES`.
    """

    suite: str
    python: str
    package: str = field(default="", repr=False)

    @property
    def image(self) -> str:
        """Its tag; the slim Python image is the same one by another name."""
        return f"{VENDOR}/debian:{self.suite}-{self.package or 'slim'}"

    @property
    def packages(self) -> tuple[str, ...]:
        """What is installed beyond a minimal Debian."""
        return (self.package,) if self.package else PACKAGES

    @property
    def customize(self) -> tuple[str, ...]:
        """What is done inside before it becomes an image."""
        return () if self.package else CUSTOMIZE

    @property
    def python_image(self) -> str:
        """The tag under which the backend is built on it."""
        return f"{VENDOR}/python:{self.python}-slim"


RELEASES = (Debian("trixie", "3.13"), Debian("bookworm", "3.11"))
"""The official images' release first; the older one has glibc 2.36 and Python 3.11."""


def made_of(release: Debian, architecture: str, package: str = "") -> str:
    """The recipe of a release's base, or of the one with this package."""
    of = replace(release, package=package)
    return recipe([repr(of), architecture, *of.packages, *LEFT_OUT, *of.customize])


def base(architecture: str, package: str = "") -> Debian:
    """Have the base on the engine, of the first release whose packages are to be had.

    Args:
        architecture: the engine's.
        package: of the base that holds this one alone; empty: the base that all share.

    Raises:
        MissingComponent: mmdebstrap is not here.
        PartFailed: no release could be installed; with what was said of each.
    """
    failures = []
    for release in (replace(release, package=package) for release in RELEASES):
        made = made_of(release, architecture, package)
        if made_from(release.image if package else release.python_image, made):
            return release
        failure = install(release, architecture, made)
        if failure is None:
            return release
        failures.append(f"{release.suite}: {failure}")
    raise PartFailed("; ".join(failures), "see that `apt-get update` works")


def install(release: Debian, architecture: str, made: str) -> str | None:
    """Make the base of one release; None when done, else why not."""
    if shutil.which("mmdebstrap") is None:
        raise MissingComponent(
            "mmdebstrap, which makes the base of the stand-ins, is not on PATH",
            "`apt-get install mmdebstrap`, on Debian",
        )
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--architectures={architecture}",
        f"--include={','.join(release.packages)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in LEFT_OUT),
        *(f"--customize-hook={step}" for step in release.customize),
        *(release.suite, "-", *mirror()),
    ]
    with tempfile.TemporaryFile() as tree:
        done = subprocess.run(  # noqa: S603 - fixed words
            command,
            stdout=tree,
            stderr=subprocess.PIPE,
            env={**os.environ, **proxy()},
            check=False,
        )
        if done.returncode:
            return why(done.stderr.decode(errors="replace"))
        tree.seek(0)
        docker("import", *changes(release, made), "-", release.image, given=tree)
    if not release.package:
        docker("tag", release.image, release.python_image)
    return None


def why(said: str) -> str:
    """The first error of a failed installation; those after it follow from it."""
    errors = [line for line in said.splitlines() if line.startswith("E:")]
    return errors[0] if errors else last_line(said)


def changes(release: Debian, made: str) -> list[str]:
    """The image's settings, as flags of ``docker import``."""
    labels = {
        VENDOR_LABEL: VENDOR,
        ORIGIN_LABEL: "stand-in",
        STANDS_FOR: f"debian:{release.suite}-slim"
        + (f" with {release.package}" if release.package else f" python:{release.python}-slim"),
        RECIPE: made,
    }
    lines = [f'LABEL {key}="{value}"' for key, value in labels.items()]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    lines += [f"ENV PATH={path}", "ENV LANG=C.UTF-8", 'CMD ["bash"]']
    return [f"--change={line}" for line in lines]


def mirror() -> list[str]:
    """The mirror that this machine's apt uses for Debian, if it uses one; else mmdebstrap's."""
    fields = ("$(REPO_URI)", "Created-By: Packages", "Label: Debian", "Component: main")
    return output_of("apt-get", "indextargets", "--format", *fields).splitlines()[:1]


def proxy() -> dict[str, str]:
    """This machine's apt proxy, as the variable that apt reads."""
    address = output_of("apt-config", "dump", "--format", "%v", "Acquire::http::Proxy")
    return {"http_proxy": address} if address else {}


def output_of(*command: str) -> str:
    """What a program of apt prints; nothing where there is no apt."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()
