"""Which stack is used, and why: asked for, ``auto``, or that of a run that is continued."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cli import wiring
from lab.errors import LabError, MachineError, MissingComponent, PartFailed, UsageError
from lab.model.fault import ProcessFault
from tests import command
from tests.cli_fixture import Command, the_line
from tests.fakes import sample_run as sample

KILL = ProcessFault(fault="backend-kill", part="backend", action="kill", at=10, lasts=5)
AWAY = "the Docker engine at unix:///nonexistent does not answer"


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment says which stack."""
    monkeypatch.delenv("REPLICA_LAB_STACK", raising=False)


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize(
    ("asked", "toxiproxy", "chosen"),
    [
        ("auto", "auto", ("embedded", f"auto: {AWAY}")),
        ("auto", "real", ("embedded", f"auto: {AWAY}")),
        ("auto", "embedded", ("embedded", "auto: the lab's own Toxiproxy is asked for")),
        ("embedded", "auto", ("embedded", "asked for")),
        ("compose", "auto", ("compose", "asked for")),
        ("compose", "real", ("compose", "asked for")),
    ],
)
def test_which_stack_it_is_without_an_engine(
    asked: str, toxiproxy: str, chosen: tuple[str, str]
) -> None:
    assert wiring.choose(asked, toxiproxy) == chosen


def test_containers_have_the_real_toxiproxy_alone() -> None:
    with pytest.raises(UsageError, match="the compose stack has the real Toxiproxy only - leave"):
        wiring.choose("compose", "embedded")


@pytest.mark.usefixtures("no_engine", "auto")
def test_strikes_that_auto_has_no_containers_for(lab: Command, tmp_path: Path) -> None:
    text = "experiment: e\nload: {users: 4}\nfaults: [gcs-latency, backend-kill]\n"
    results = tmp_path / "results"
    ended = lab("run", command.spec(tmp_path, text), "--results", results)
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err) == (
        f"backend-kill kills a container, and there can be none: {AWAY} - "
        "`lab doctor` says how to mend it"
    )
    assert not results.exists()
    with pytest.raises(MissingComponent):
        wiring.choose("auto", "auto", [KILL])


@pytest.mark.parametrize("asked", ["auto", "embedded"])
@pytest.mark.usefixtures("no_engine", "auto")
def test_a_run_is_continued_on_its_own_stack(lab: Command, tmp_path: Path, asked: str) -> None:
    run = sample.create(tmp_path, sample.cells()[:1])
    sample.measure(run, run.cells()[0])
    ended = lab("run", "--resume", "latest", "--results", tmp_path, "--stack", asked)
    assert ended.code in (0, 4), ended.err
    first = ended.err.splitlines()[0]
    assert first.startswith(f"stack: embedded (as the run that is continued, {run.info.name}; ")


def test_a_run_cannot_be_continued_on_another_stack(lab: Command, tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    ended = lab("run", "--resume", "latest", "--results", tmp_path, "--stack", "compose")
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err) == (
        f"{run.info.name} was made on the embedded stack, so --stack compose cannot continue it - "
        "leave --stack out"
    )


@pytest.mark.usefixtures("no_engine", "auto")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 3, f"{AWAY} - start it"),
        (["--toxiproxy", "embedded"], 2, "the compose stack has the real Toxiproxy only - leave"),
    ],
)
def test_a_run_of_containers_is_continued_in_containers_or_not_at_all(
    lab: Command, tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    run = sample.create(tmp_path)
    file = run.path / "run.json"
    file.write_text(file.read_text().replace('"stack": "embedded"', '"stack": "compose"'))
    ended = lab("run", "--resume", "latest", "--results", tmp_path, *options)
    assert (ended.code, ended.out) == (code, "")
    assert the_line(ended.err).startswith(message)


class Closing:
    """A stack that cannot be closed."""

    origins = "none"

    def __init__(self, error: LabError) -> None:
        self._error = error

    def close(self) -> None:
        raise self._error


def test_an_end_that_fails_too_does_not_hide_what_failed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Closing(MachineError("the engine is gone"))
    monkeypatch.setattr(wiring, "ComposeStack", lambda *_arguments: stack)
    chosen = wiring.StackChoice("compose", "asked for")
    with pytest.raises(PartFailed) as caught, wiring.open_stack(chosen, tmp_path):
        raise PartFailed("nginx exited (1)")
    assert caught.value.__notes__ == ["and then: the engine is gone"]
    with (
        pytest.raises(MachineError, match="the engine is gone"),
        wiring.open_stack(chosen, tmp_path),
    ):
        pass
