"""``make engine``: what it says where it cannot help, and that it leaves a working engine alone.

Every program that it would install, start or ask is a stand-in of one line here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from compose.images.catalogue import IMAGES

TOOLS = ["bash", "mktemp", "rm", "timeout", "tail", "paste", "setsid", "sleep"]

SILENT = "exit 1"
ROOT_USER = "echo 0"
TOUCH = 'echo "$0 $*" >>"${0%/*}/touched"'
COMPOSE_MISSING = "[[ $1 == version ]]"


def run_engine(folder: Path, **texts: str) -> subprocess.CompletedProcess[str]:
    """Run the script with these programs and nothing else on PATH."""
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or "")
    variables = {name: text for name, text in texts.items() if name.isupper()}
    for name in texts.keys() - variables.keys():
        file = folder / name.replace("_", "-")
        file.write_text(f"#!/bin/bash\n{texts[name]}\n")
        file.chmod(0o755)
    return subprocess.run(
        [IMAGES / "engine.sh"],
        env={
            "PATH": str(folder),
            "HOME": str(folder),
            "PYTHON": "python",
            "LAB_ENGINE_LOG": str(folder / "log"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"docker": SILENT, "DOCKER_HOST": "tcp://127.0.0.1:1"},
            "no engine answers at tcp://127.0.0.1:1 - unset DOCKER_HOST",
        ),
        (
            {"id": ROOT_USER},
            "no engine answers, and this is not Debian - "
            "install Docker and Compose v2, and start it",
        ),
        (
            {"id": "echo 1000", "apt_get": TOUCH},
            "no engine answers, and this is not root - run `make engine` as root, or start Docker",
        ),
        (
            {"id": ROOT_USER, "apt_get": "echo 'E: no such package' >&2; exit 100"},
            "packages: docker.io iptables mmdebstrap: E: no such package - "
            "see what it needs, and its registry",
        ),
        (
            {
                "id": ROOT_USER,
                "apt_get": "true",
                "mmdebstrap": "true",
                "docker": SILENT,
                "dockerd": "echo 'failed to start daemon: no cgroups' >&2; exit 1",
            },
            "start: failed to start daemon: no cgroups - see what it needs, and its registry",
        ),
        (
            {"id": "echo 1000", "docker": COMPOSE_MISSING, "uname": "echo riscv64"},
            "no Compose v2 for riscv64 - install docker-compose-plugin",
        ),
        (
            {
                "id": "echo 1000",
                "docker": COMPOSE_MISSING,
                "uname": "echo x86_64",
                "python": "echo 'No module named venv' >&2; exit 1",
            },
            "compose: No module named venv - see what it needs, and its registry",
        ),
    ],
)
def test_what_cannot_be_helped_is_one_line(
    texts: dict[str, str], message: str, tmp_path: Path
) -> None:
    done = run_engine(tmp_path, **texts)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].strip() == f"engine: {message}"
    assert not (tmp_path / "touched").exists()


def test_an_engine_that_answers_is_left_alone(tmp_path: Path) -> None:
    done = run_engine(
        tmp_path,
        docker="echo 27.0",
        id=ROOT_USER,
        mmdebstrap=TOUCH,
        apt_get=TOUCH,
        dockerd=TOUCH,
        systemctl=TOUCH,
        pip=TOUCH,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "engine 27.0, 27.0\n"
    assert not (tmp_path / "touched").exists()


def test_what_it_needs_on_the_way_is_removed(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    run_engine(programs, docker="echo 27.0", id=ROOT_USER, mmdebstrap="", TMPDIR=str(scratch))
    assert list(scratch.iterdir()) == []
