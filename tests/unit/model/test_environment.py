"""A program that the lab starts gets what it needs, and nothing else of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.model.environment import ENGINE, child_environment, python_variables
from lab.paths import ROOT

USERS = {
    "PATH": "/bin",
    "HOME": "/home/a",
    "LANG": "C.UTF-8",
    "LC_ALL": "C",
    "TZ": "UTC",
    "TMPDIR": "/tmp",  # noqa: S108 - never used
    "REPLICA_LAB_ID": "replica-lab-a",
}
HOSTILE = {
    "PGSSLMODE": "require",
    "PGSERVICE": "mine",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "https_proxy": "http://127.0.0.1:1",
    "NO_PROXY": "",
    "REQUESTS_CA_BUNDLE": "/none",
    "LD_PRELOAD": "/none.so",
    "PYTHONSTARTUP": "/none.py",
    "PYTHONPATH": "/none",
    "DOCKER_HOST": "unix:///none",
    "LOCUST_USERS": "9",
    "LAB_WORKERS": "9",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "COMPOSE_PROFILES": "mine",
}


@pytest.mark.parametrize(
    ("given", "names", "more", "expected"),
    [
        ({}, (), {}, {}),
        ({"LAB_WORKERS": "2"}, (), {}, {"LAB_WORKERS": "2"}),
        ({"PATH": "/own"}, (), {}, {"PATH": "/own"}),
        ({}, ENGINE, {}, {"DOCKER_HOST": "unix:///none"}),
        (
            {},
            (),
            {"REPLICA_LAB_PASS": "LD_PRELOAD, FAKETIME"},
            {"REPLICA_LAB_PASS": "LD_PRELOAD, FAKETIME", "LD_PRELOAD": "/none.so"},
        ),
    ],
)
def test_a_program_gets_what_is_listed_and_what_it_is_given(
    given: dict[str, str], names: tuple[str, ...], more: dict[str, str], expected: dict[str, str]
) -> None:
    assert child_environment(given, names, {**USERS, **HOSTILE, **more}) == {**USERS, **expected}


def test_a_module_of_the_lab_finds_its_packages_from_any_folder() -> None:
    paths = python_variables({"PYTHONPATH": os.pathsep.join(["", "here", "/there"])})["PYTHONPATH"]
    assert paths.split(os.pathsep) == [str(ROOT), str(Path("here").absolute()), "/there"]
