"""Whatever others wrote, and wherever: no terminal and no page obeys it, and JSON keeps it."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lab.errors import PartFailed
from lab.model.experiment import Cell
from lab.model.run import Progress, RunInfo
from lab.model.text import Styled, clean, clean_line
from lab.model.verdict import Verdict
from lab.report import Style, cell_details, end_table
from lab.report.blocks import Value
from lab.report.progress import line
from lab.store import RunFolder
from lab.store.runs import INFO
from tests.cli_fixture import Command
from tests.fakes import sample_run as sample

HOSTILE = (
    "\x1b[31m\x1b[8m\x1b]0;title\x07\x1b]8;;http://x\x1b\\\x9b2J\x7f\x08\r\x85\x00\u2028\u2029"
    "\u202e\u2066\u200b\u200f\xad\ufeff\U000e0041 [red]:smile:[/red] `x` <b>&#8238;</b>|\n+ held"
)
SHOWN = "\\x1b[31m\\x1b[8m\\x1b]0;title\\x07"
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def unseen(text: str) -> set[str]:
    """The characters of a text that a reader could not see, or that a terminal would obey."""
    return {char for char in set(text) - {"\n", "\t"} if unicodedata.category(char) in UNSEEN}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the texts of a document stand; of a mapping, the keys too."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(entries):
            yield from leaves(inner, (*path, key))


def poisoned(document: Any, model: type[BaseModel]) -> tuple[Any, int]:
    """The document with hostile text at the end of every text that may be any; how many."""
    count = 0
    for path in leaves(document):
        if path[-1] in ("id", "name", "criterion") or path[0] == "cells":
            continue  # names of folders, and what is read again
        *outer, last = path
        holder = document
        for key in outer:
            holder = holder[key]
        before = holder[last]
        holder[last] = before + HOSTILE
        try:
            model.model_validate_json(json.dumps(document))
            count += 1
        except ValidationError:
            holder[last] = before
    return document, count


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run in which every text that may be any is hostile, in a folder of a hostile name."""
    results = tmp_path_factory.mktemp("results")
    stored = sample.create(results, sample.cells()[:3])
    for cell in stored.cells():
        sample.measure(stored, cell)
    documents: list[tuple[Path, type[BaseModel]]] = [(stored.path / INFO, RunInfo)]
    for cell_id in stored.info.cells[:2]:
        folder = stored.path / "cells" / cell_id
        documents += [(folder / "cell.json", Cell), (folder / "verdict.json", Verdict)]
    counts = {}
    for file, model in documents:
        document, counts[file.name] = poisoned(json.loads(file.read_text()), model)
        file.write_text(json.dumps(document))
    fewest = {INFO: 12, "cell.json": 4, "verdict.json": 8}
    assert all(counts[name] >= fewest[name] for name in fewest), counts
    path = stored.path.rename(results / "2026\x1b[31m\u202e-run")
    return RunFolder.open(path)


FORMS = [
    ["report", "2026"],
    ["report", "2026", "--markdown"],
    ["report", "2026", "--html"],
    ["report", "2026", "--cell", "size"],
    ["report", "2026", "--cell", "nosuch"],
    *(["export", "2026", "--to", name, "-o", "-"] for name in ("junit", "openmetrics")),
    *(["export", "2026", "--to", name, "-o", "-"] for name in ("otlp", "perfetto")),
    ["compare", "2026", "2026"],
    ["runs"],
    ["run", "--resume", "2026", "--dry-run"],
    ["threshold", "--resume", "2026"],
]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_no_form_hands_it_on(lab: Command, run: RunFolder, form: list[str]) -> None:
    ended = lab(*form, "--results", run.path.parent)
    assert ended.code in (0, 2, 4), ended.err
    assert not unseen(ended.out + ended.err)


def test_it_is_shown_as_what_it_is(lab: Command, run: RunFolder) -> None:
    shown = lab("report", "2026", "--results", run.path.parent).out
    assert SHOWN in shown
    assert "[red]:smile:[/red]" in " ".join(shown.split())
    page = lab("report", "2026", "--html", "--results", run.path.parent).out
    assert "\\u202e" in page
    assert "<b>" not in page
    document = lab("report", "2026", "--markdown", "--results", run.path.parent).out
    assert "\\`x\\` \\<b\\>\\&\\#8238;" in document
    assert "http\\://x" in document


def test_a_terminal_gets_the_labs_own_colours_alone(run: RunFolder) -> None:
    summary, style = run.summary(), Style(120, colour=True)
    for text in (
        end_table(summary, run.info, run.path, style),
        cell_details(summary.cells[0], style),
    ):
        assert isinstance(text, Styled)
        assert COLOUR.search(text)
        assert not unseen(COLOUR.sub("", text))
        assert "\\x1b[8m" in text


@pytest.mark.parametrize("form", [["report", "2026"], ["runs"]], ids=" ".join)
def test_json_keeps_the_very_value(lab: Command, run: RunFolder, form: list[str]) -> None:
    out = lab(*form, "--json", "--results", run.path.parent).out
    assert out.isascii()
    assert not unseen(out)
    data = json.loads(out)
    if form[0] == "report":
        assert data["about"] == sample.EXPERIMENT.about + HOSTILE


def test_judged_anew_it_is_clean_on_the_stored_pages_too(
    lab: Command, run: RunFolder, tmp_path: Path
) -> None:
    copy = shutil.copytree(run.path, tmp_path / run.path.name)
    ended = lab("judge", "2026", "--results", tmp_path)
    assert ended.code == 4
    assert not unseen(ended.out + ended.err)
    for name in ("report.html", "report.md"):
        text = (copy / name).read_text(encoding="utf-8")
        assert not unseen(text)
        assert "\\u202e" in text


SPECS = {
    "a key": 'experiment: e\n"x\\e[31m\\u202e": 1\nload: {users: 4}\n',
    "a value": 'experiment: e\nload: {users: "\\e]0;x\\a\\u202e"}\n',
    "a label": 'experiment: e\nmatrix: {x: {"a\\e[8m\\u2066": {workers: 1}, b: {workers: 2}}}\n'
    "load: {users: 4}\n",
    "a criterion": 'experiment: e\nload: {users: 4}\ncriteria: ["\\e[8mp95 < 1 s"]\n',
    "a fault": 'experiment: e\nload: {users: 4}\nfaults: ["\\e[8m\\u200b"]\n',
    "a raw mark": "experiment: e\nload: {users: 4\u202e}\n",
    "a question": f"experiment: e\nabout: {json.dumps(HOSTILE[:-7])}\nload: {{users: 4}}\n",
}


@pytest.mark.parametrize("case", SPECS)
def test_a_spec_and_its_name(lab: Command, tmp_path: Path, case: str) -> None:
    file = tmp_path / "s\u202e\x1bpec.yaml"
    file.write_text(SPECS[case], encoding="utf-8")
    for arguments in (["run", "--dry-run"], ["threshold", "--dry-run"], ["summary"]):
        ended = lab(*arguments, file, "--results", tmp_path)
        assert ended.code in (0, 2, 4)
        assert not unseen(ended.out + ended.err)


def test_messages_environment_and_names_of_files(
    lab: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(_results: Path) -> None:
        raise PartFailed(f"nginx did not come up: {HOSTILE}")

    monkeypatch.setattr("lab.store.runs", fails)
    for arguments in (["runs"], ["--debug", "runs"], [HOSTILE], ["report", HOSTILE]):
        ended = lab(*arguments)
        assert ended.code in (2, 3)
        assert not unseen(ended.out + ended.err)
        assert "\\x1b[31m" in ended.err
    monkeypatch.setenv("REPLICA_LAB_STACK", "\x1b[31m\u202e")
    assert "\\x1b[31m\\u202e" in lab("up", "--results", tmp_path).err


def test_the_live_line() -> None:
    progress = Progress(cell=f"workers=1{HOSTILE}", index=1, cells=2, phase="window", left_s=5)
    assert not unseen(line(progress, 400))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters()))
def test_what_is_clean_stays_and_is_seen(text: str) -> None:
    shown = clean(text)
    assert not unseen(shown)
    assert clean(shown) == shown
    assert not set("\n\r\t") & set(clean_line(text))
    assert Value(text).text == clean_line(text)
    assert text == shown or unseen(text) or not text.isascii()


def test_every_character_that_cannot_be_seen_is_written_out() -> None:
    missed = [f"{code:x}" for code in range(0x110000) if unseen(clean(chr(code)))]
    assert missed == []
    assert clean("é ▁ \U0001f600 \xa0 a\tb\n") == "é ▁ \U0001f600 \xa0 a\tb\n"
