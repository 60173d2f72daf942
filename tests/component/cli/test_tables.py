"""``lab doctor``, ``knobs``, ``metrics``, ``faults`` and the help of every command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import click
import pytest

from lab import cli, doctor
from lab.config import read_faults
from lab.doctor import Component
from lab.model import metrics
from lab.model.knobs import TABLE
from lab.paths import ROOT
from tests.cli_fixture import Command

WELL = Component("python", True, "3.11.7", "install it")
OPTIONAL = Component("toxiproxy-server", False, "not here", "`make toxiproxy` builds it", False)
MISSING = Component("nginx", False, "not installed", "run `make setup`")
COMMANDS = cli.lab.list_commands(click.Context(cli.lab))


@pytest.mark.parametrize(
    ("components", "code"),
    [([WELL], 0), ([WELL, OPTIONAL], 0), ([WELL, MISSING], 3), ([MISSING, OPTIONAL], 3)],
    ids=["well", "an-optional-part-is-missing", "a-part-is-missing", "both"],
)
def test_the_doctor_ends_with_3_where_something_required_is_missing(
    lab: Command, monkeypatch: pytest.MonkeyPatch, components: list[Component], code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _results: components)
    ended = lab("doctor")
    assert (ended.code, ended.err) == (code, "")
    assert len(ended.out.splitlines()) == len(components)
    data = lab("doctor", "--json")
    assert data.code == code
    assert json.loads(data.out) == [
        {
            "name": component.name,
            "ok": component.ok,
            "found": component.found,
            "remedy": component.remedy,
            "required": component.required,
        }
        for component in components
    ]


def test_the_doctor_shows_the_remedy_of_what_is_missing_alone(
    lab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _results: [WELL, MISSING, OPTIONAL])
    well, missing, optional = lab("doctor").out.splitlines()
    assert well.split() == ["ok", "python", "3.11.7"]
    assert missing.startswith("MISS  nginx ")
    assert missing.endswith(" not installed - run `make setup`")
    assert optional.startswith("-     toxiproxy-server ")
    assert optional.endswith(" not here - `make toxiproxy` builds it")


def test_the_doctor_of_this_machine_looks_for_every_part(lab: Command) -> None:
    names = [component["name"] for component in json.loads(lab("doctor", "--json").out)]
    assert {"python", "nginx", "postgres", "fake-gcs-server", "toxiproxy-server"} <= set(names)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("knobs", [row.name for row in TABLE]),
        ("metrics", [row.name for row in metrics.TABLE]),
        ("faults", list(read_faults(ROOT / "faults"))),
    ],
)
def test_a_table_lists_every_name_once_as_text_and_as_json(
    lab: Command, command: str, names: list[str]
) -> None:
    text, data = lab(command), lab(command, "--json")
    assert (text.code, text.err, data.code, data.err) == (0, "", 0, "")
    assert sorted(row[next(iter(row))] for row in json.loads(data.out)) == sorted(names)
    for name in names:
        assert re.search(rf"^\s*{re.escape(name)}\b", text.out, re.MULTILINE), name


def test_a_command_is_a_file_that_holds_one() -> None:
    files = {file.stem for file in (ROOT / "lab" / "cli").glob("*.py")}
    shared = {"__init__", "collector", "exams", "lessons", "options", "session", "standing"}
    shared |= {"step", "stored", "streams", "watcher", "wiring"}
    assert files - shared == set(COMMANDS)


HEAVY = "pydantic rich docker psycopg2 scipy jinja2 ruamel lab.model.knobs"


def imported_by(*arguments: str, **variables: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    program = f"import sys; from lab.cli import main; sys.argv = {['lab', *arguments]}; main()"
    watched = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {program}"
    done = subprocess.run(
        [sys.executable, "-c", watched],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("command", "needed", "unneeded"),
    [
        ("--help", "lab.errors", HEAVY),
        ("--version", "lab.errors", HEAVY),
        ("knobs", "lab.cli.knobs", "lab.cli.run lab.stack lab.judge docker numpy jinja2 ruamel"),
        ("metrics", "lab.cli.metrics", "lab.cli.run lab.stack lab.judge docker numpy jinja2"),
        ("images --help", "lab.cli.images", "lab.cli.run lab.judge numpy jinja2"),
    ],
)
def test_what_a_command_does_not_need_is_not_imported(
    command: str, needed: str, unneeded: str
) -> None:
    loaded = imported_by(*command.split())
    assert needed in loaded
    assert not {name for name in unneeded.split() if name in loaded}


def test_a_shell_that_completes_a_commands_name_imports_none() -> None:
    loaded = imported_by(_LAB_COMPLETE="bash_complete", COMP_WORDS="lab r", COMP_CWORD="1")
    assert not {name for name in HEAVY.split() if name in loaded}


def test_the_help_says_of_each_command_what_the_command_says_itself() -> None:
    for name, about in cli.abouts().items():
        command = cli.lab.get_command(click.Context(cli.lab), name)
        assert command
        assert command.get_short_help_str(limit=200) == about


def test_the_help_lists_every_command_with_a_whole_sentence(lab: Command) -> None:
    ended = lab("--help")
    assert (ended.code, ended.err) == (0, "")
    listed = dict(
        line.split(maxsplit=1) for line in ended.out.partition("Commands:\n")[2].splitlines()
    )
    assert set(listed) == set(COMMANDS)
    for name, sentence in listed.items():
        assert re.fullmatch(r"[A-Z][^.]*[^.]\.", sentence), (name, sentence)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_goes_past_80_columns(
    lab: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = lab(name, "--help").out.splitlines()
    assert lines
    assert [line for line in lines if len(line) > 80] == []


def test_without_a_command_the_help_is_shown_as_a_mistake(lab: Command) -> None:
    ended = lab()
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == lab("--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(lab: Command, name: str) -> None:
    ended = lab(name, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: lab {name} ")
    for parameter in cli.lab.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help.endswith("."), parameter.name


def test_the_version(lab: Command) -> None:
    ended = lab("--version")
    assert ended.code == 0
    assert re.fullmatch(r"lab, version \d+\.\d+\.\d+\n", ended.out)
