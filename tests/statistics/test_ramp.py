"""The oracle under a ramp, and a stored ramp held against it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.judge.timeline import crossings
from lab.judge.trial import Trial
from lab.model.evidence import Audit, Cause, Evidence, Observation, WorkerReading
from lab.model.evidence import Sample as Stored
from lab.model.experiment import Cell
from lab.model.verdict import Crossing, Outcome, Timeline, Verdict
from lab.store import RunFolder
from tests.fakes import sample_run
from tests.fakes.cells import make_cell
from validation import oracle_ramp
from validation.oracle import System
from validation.oracle_ramp import PHASE_2, Ramp, Sample, Stage, crossing, expected, simulate
from validation.ramp import capacity_bound, compare, in_order, main, ramp_of, system_of, table

CALLS = ("blocking", "to_thread", "executor")
LOAD = {
    "stages": [
        {"users": 10, "hold": "60 s"},
        {"users": 50, "over": "120 s"},
        {"users": 100, "over": "120 s"},
    ],
    "backoff": "5 s",
}


def system(call: str) -> System:
    return System(call, threads=11)  # type: ignore[arg-type]


def cell(call: str) -> Cell:
    settings = {"gcs_call": call, "gcs_threads": 11}
    return make_cell(settings, cell_id=f"gcs_call={call}", load=LOAD, criteria=["p95 < 10 s"])


def stored(samples: Sequence[Sample]) -> tuple[Stored, ...]:
    """The oracle's uploads as the lab writes them, with stage times that differ from them."""
    stages = [{"auth": 0.05, "release": 0.025, "write": 0.1, "gcs": gcs} for gcs in (2.634, 4.366)]
    return tuple(
        Stored(
            planned_at=one.sent,
            sent_at=one.sent,
            latency_s=one.latency,
            status=200 if one.succeeded else 504,
            error=None if one.succeeded else Cause.GATEWAY_TIMEOUT,
            bytes=50_000,
            user=0,
            stages=stages[number % 2] if one.succeeded else {},
        )
        for number, one in enumerate(samples)
    )


def reading(loop_busy_s: float, gcs_attempts: int) -> WorkerReading:
    return WorkerReading(
        t=300, pid=1, pool_size=10, checked_out=0, overflow=0, waiting=0, threads_busy=0,
        threads_queued=0, inflight=0, loop_lag=0, rss=0, cpu_s=0, gcs_bytes=0,
        gcs_attempts=gcs_attempts, loop_busy_s=loop_busy_s,
    )  # fmt: skip


def make_run(results: Path, more_users: int = 0, outcome: Outcome = Outcome.BROKE) -> RunFolder:
    """Three cells that a service like the oracle's gave, each crossed so many users later."""
    cells = [cell(call) for call in CALLS]
    run = sample_run.create(results, cells)
    audit = Audit(t=301, rows=0, objects=0, lost=[], orphans=[], refused=0)
    for one in cells:
        observation = Observation(
            samples=stored(simulate(system(one.knobs.gcs_call), PHASE_2, seed=77)), evidence=()
        )
        found = tuple(
            each.model_copy(update={"users": each.users + more_users})
            for each in crossings(Trial(one, observation))
        )
        finish(run, one, observation.samples, [audit], found, outcome)
    return run


def finish(
    run: RunFolder,
    one: Cell,
    samples: Sequence[Stored],
    evidence: Sequence[Evidence],
    found: tuple[Crossing, ...] = (),
    outcome: Outcome = Outcome.BROKE,
) -> None:
    folder = run.begin(one)
    folder.samples.write_text("".join(each.model_dump_json() + "\n" for each in samples))
    folder.write_evidence(evidence)
    folder.finish(
        Verdict(
            cell=one.id,
            outcome=outcome,
            reasons=(),
            metrics={},
            findings=(),
            injected=(),
            course=Timeline(crossings=found),
        )
    )


def test_the_oracle_uses_nothing_of_the_lab() -> None:
    tree = ast.parse(Path(oracle_ramp.__file__).read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert "lab" not in {name.partition(".")[0] for name in names}


def test_the_calls_cross_in_the_order_of_what_they_carry() -> None:
    users = [expected(system(call), PHASE_2, seeds=3) for call in CALLS]
    assert users[0].highest < users[1].lowest
    assert users[1].highest < users[2].lowest
    bounds = [capacity_bound(system(call)) for call in CALLS]
    assert bounds == sorted(set(bounds))


def test_where_nothing_is_slow_nothing_is_crossed() -> None:
    calm = Ramp((Stage(2, hold=60), Stage(4, over=240)))
    assert crossing(simulate(system("executor"), calm), calm) is None
    assert expected(system("executor"), calm, seeds=1).median == float("inf")


def test_a_slow_answer_of_a_hundred_is_no_crossing_and_too_few_answers_show_none() -> None:
    fast = [Sample(sent, 3.0, succeeded=True) for sent in range(100)]
    slow = [dataclasses.replace(one, latency=60.0) for one in fast]
    assert crossing([*fast[:50], slow[50], *fast[51:]], PHASE_2) is None
    assert crossing(slow[:19], PHASE_2) is None
    failed = [dataclasses.replace(one, succeeded=False) for one in slow]
    assert crossing([*failed, *fast], PHASE_2) is None


def test_a_crossing_is_told_when_the_evidence_suffices() -> None:
    # 5 windows: P(Binomial(20, 5 %) >= 4) is 1.6 %, five have 0.26 %, and 1 % is asked for.
    samples = [Sample(sent, 3.0 if sent < 70 else 12.0, succeeded=True) for sent in range(100)]
    found = crossing(samples, PHASE_2)
    assert found == oracle_ramp.Crossing(users=15, t=74 + 10, since_users=13)


def test_users_come_as_the_stages_say() -> None:
    times = PHASE_2.arrivals()
    assert times[:10] == [0.0] * 10
    assert times[10:13] == [60.0, 63.0, 66.0]
    assert times[50:52] == [180.0, pytest.approx(182.4)]
    assert (len(times), PHASE_2.end) == (100, 300.0)
    assert [PHASE_2.users_at(t) for t in (0, 59, 120, 180, 240, 300)] == [10, 10, 30, 50, 75, 100]
    with pytest.raises(ValueError, match="users may only grow"):
        Ramp((Stage(5), Stage(4)))


def test_who_waits_longer_than_the_proxy_fails_and_comes_again_after_a_pause() -> None:
    ramp = Ramp((Stage(30, hold=200),), read_timeout=60.0, backoff=5.0)
    samples = simulate(system("blocking"), ramp)
    failed = [one for one in samples if not one.succeeded]
    assert failed
    assert {round(one.latency) for one in failed} == {60}
    assert all(one.latency <= 60.1 for one in samples)
    again = {round(one.sent + one.latency + 5, 6) for one in failed}
    assert again & {round(one.sent, 6) for one in samples}


@pytest.mark.parametrize("call", CALLS)
def test_the_lab_and_the_oracle_read_the_same_crossing_from_the_same_uploads(call: str) -> None:
    samples = simulate(system(call), PHASE_2, seed=5)
    found = crossing(samples, PHASE_2)
    [told] = crossings(Trial(cell(call), Observation(samples=stored(samples), evidence=())))
    assert found is not None
    assert (told.users, told.since_users) == (found.users, found.since_users)
    assert told.t == pytest.approx(found.t, abs=0.001)


def test_a_cells_own_stage_times_are_what_the_oracle_gets() -> None:
    one = cell("to_thread").model_copy(
        update={"knobs": cell("to_thread").knobs.with_settings({"speed": 5, "workers": 2})}
    )
    samples = stored([Sample(sent, 4.0, succeeded=sent < 10) for sent in range(20)])
    found = system_of(one, Observation(samples=samples, evidence=(reading(5.0, 101),)))
    assert found.storage == pytest.approx((2.0, 5.0), abs=0.001)
    assert (found.auth, found.release, found.write) == pytest.approx((0.05, 0.025, 0.1))
    assert found.cpu == pytest.approx(5.0 * 5 / 100 - 0.175)
    assert (found.call, found.workers, found.slots) == ("to_thread", 2, 6)
    assert ramp_of(one) == PHASE_2


def test_a_run_that_agrees_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    assert main([str(run.path)]) == 0
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["yes"] * 4
    assert " ".join(out.splitlines()[1].split()[1:6]) == "10 (10) 10 (10), 10-10"


def test_a_run_that_is_off_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, more_users=12)
    assert main([str(run.path)]) == 1
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["no"] * 3 + ["yes"]


def test_an_invalid_cell_shows_nothing(tmp_path: Path) -> None:
    rows = compare(make_run(tmp_path, outcome=Outcome.INVALID), seeds=1)
    assert not any(row.within for row in rows)
    assert table(rows).count("no: the cell is invalid") == 3


def test_cells_out_of_the_order_of_their_bounds_are_reported(tmp_path: Path) -> None:
    first, *_, last = compare(make_run(tmp_path), seeds=1)
    swapped = [
        dataclasses.replace(first, measured=last.measured),
        dataclasses.replace(last, measured=first.measured),
    ]
    assert in_order([first, last])
    assert not in_order(swapped)


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_other_arguments_than_a_run_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m validation.ramp" in capsys.readouterr().err


def test_its_help_is_its_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "They\nagree within 2 users or 15 %" in capsys.readouterr().out


def test_a_run_is_found_by_its_name_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    assert main(["--results", str(tmp_path), "latest"]) == 0
    assert "in the order of the bounds: yes" in capsys.readouterr().out


def test_what_is_no_ramp_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    cells = {
        "no stages": make_cell(cell_id="steady", criteria=["p95 < 10 s"]),
        "does not know gcs_call audio_pool": make_cell(
            {"gcs_call": "audio_pool"}, load=LOAD, criteria=["p95 < 10 s"]
        ),
        "does not know a pool without a limit": make_cell(
            {"max_overflow": "unlimited"}, load=LOAD, criteria=["p95 < 10 s"]
        ),
        "no upload succeeded": make_cell(cell_id="failed", load=LOAD, criteria=["p95 < 10 s"]),
        "no criterion of cell": make_cell(load=LOAD, criteria=["error_rate < 5 %"]),
        "users may only grow": make_cell(
            load={"stages": [{"users": 5, "hold": "5 s"}, {"users": 1, "hold": "5 s"}]},
            criteria=["p95 < 10 s"],
        ),
    }
    for number, (message, one) in enumerate(cells.items()):
        run = sample_run.create(tmp_path / f"results-{number}", [one])
        assert main([str(run.path)]) == 2
        assert "no cell is finished there - give a run of" in capsys.readouterr().err
        samples = stored([Sample(0.0, 3.0, succeeded=one.id != "failed")])
        finish(run, one, samples, sample_run.evidence(), (), Outcome.HELD)
        assert main([str(run.path)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert " - give a run " in error
        assert error.count("\n") == 1
