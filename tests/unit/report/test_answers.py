"""The answers: each rule against cells that held, broke, are undecided and are invalid."""

from __future__ import annotations

from typing import get_args

import pytest

from lab.model.experiment import Question
from lab.model.metrics import BY_NAME
from lab.model.run import Answer, CellResult, Summary
from lab.model.verdict import Failure, Outcome, Resource
from lab.report import phrases
from lab.report.answers import NOTHING, RULES, answer, answered
from tests.unit.report.advised import on_the_vm
from tests.unit.report.results import STAGES, course, crossing, leak, limited, result, summary

BROKE, UNDECIDED, INVALID = Outcome.BROKE, Outcome.UNDECIDED, Outcome.INVALID
POOL = "pg_connections <= 20"
LOOP = limited(Resource.EVENT_LOOP, "event loop busy 99 %")
P95, ERRORS = "p95 < 10 s", "error_rate < 5 %"
DRY = {
    "errors.pool_timeout": 12.0,
    "errors.db_refused": 0.0,
    "pg_connections": 20.0,
    "error_rate": 0.12,
}
RELEASED = {"errors.pool_timeout": 0.0, "errors.db_refused": 0.0, "pg_connections": 3.0}
CLOUD = {"succeeded": 3.0, "cold_starts": 1.0, "queue_wait": 4.2, "errors.no_instance": 47.0}


def _pair(load: str, before: dict[str, float], after: dict[str, float]) -> list[CellResult]:
    held, released = ({"db_session": way, "load": load} for way in ("hold", "release"))
    return [
        result(f"h{load}", BROKE, before, axes=held, db_session="hold"),
        result(f"r{load}", metrics=after, axes=released, db_session="release"),
    ]


CASES: dict[str, tuple[Question, list[CellResult], list[str]]] = {
    "general-held": (
        "general",
        [result(metrics={"p95": 4.0}, findings={P95: "met"})],
        ["Every criterion is met by as-found (p95 4.00 s, 0 % failed)."],
    ),
    "general-broke": (
        "general",
        [result("slow", BROKE, {"p95": 40.0}, {P95: "missed"}, limit=LOOP)],
        [
            "slow broke: p95 < 10 s is missed (none failed).",
            "The limit is event_loop in slow (event loop busy 99 %).",
        ],
    ),
    "general-many": (
        "general",
        [result(f"c{n}", BROKE, limit=LOOP if n < 4 else None) for n in range(6)],
        [
            "4 broke at the limit event_loop: c0, c1, c2 and c3.",
            "2 broke with no limit in sight: c4 and c5.",
        ],
    ),
    "pool-held-by-construction": (
        "pool_validation",
        [result(metrics={"pg_connections": 1.0}, findings={POOL: "met"}, limit=LOOP)],
        [
            "Connections never passed 20 in as-found (peak 1).",
            "Pool and overflow allow no more in as-found",
            "The limit is event_loop in as-found",
        ],
    ),
    "pool-passed": (
        "pool_validation",
        [result("two", BROKE, DRY | {"pg_connections": 25.0}, {POOL: "missed"}, workers=2)],
        [
            "They did pass 20 in two (peak 25).",
            "Connections ran out in two: 12 pool_timeout of 100 uploads, peak 25 connections, 12 % "
            "failed, led by pool_timeout (12).",
        ],
    ),
    "pool-undecided": (
        "pool_validation",
        [result("q", UNDECIDED, findings={POOL: "undecided"})],
        ["Whether they passed 20 is undecided in q (peak -).", "q is undecided as a whole"],
    ),
    "pool-nowhere-dry": (
        "pool_validation",
        [result(metrics=RELEASED)],
        ["No upload failed for want of a connection in as-found."],
    ),
    "pool-two-minutes": (
        "pool_validation",
        [result(metrics={"errors.gateway_timeout": 31.0})],
        ["31 uploads of as-found met nginx's time-out of 60 s", "of 120 s such a user sends 2"],
    ),
    "pool-without-a-limit": (
        "pool_validation",
        [result(metrics={"pg_connections": 1.0}, findings={POOL: "met"}, max_overflow="unlimited")],
        ["Connections never passed 20 in as-found (peak 1)."],
    ),
    "pool-own-read-timeout": (
        "pool_validation",
        [result(metrics={"errors.gateway_timeout": 31.0}, nginx_read_timeout="50 s")],
        [
            "31 uploads of as-found met nginx's time-out of 50 s (nginx_read_timeout 50 s)",
            "of 120 s such a user sends 3",
        ],
    ),
    "ramp-order": (
        "gcs_threshold",
        [
            result("fast", BROKE, load=STAGES, course=course(crossing(P95, 31, 33, 120))),
            result(
                "slow",
                BROKE,
                load=STAGES,
                course=course(crossing(P95, 10, 10, 30), crossing(ERRORS, 17, 20, 90)),
            ),
        ],
        [
            "fast: p95 < 10 s is crossed at 31-33 users (120 s).",
            "slow: p95 < 10 s is crossed at 10 users, the fewest there were, so it lies there or "
            "below (30 s), then error_rate < 5 % is crossed at 17-20 users (90 s).",
            "By the users at whom p95 gives way: slow (10), then fast (31).",
        ],
    ),
    "ramp-held": (
        "gcs_threshold",
        [result(metrics={"p95": 6.0}, findings={P95: "met"}, load=STAGES, course=course())],
        ["no bound was crossed for certain up to 100 users (p95 6.00 s against < 10 s: met)."],
    ),
    "ramp-without-evidence": (
        "gcs_threshold",
        [result(verdict=UNDECIDED, findings={P95: "undecided"}, load=STAGES, course=course())],
        ["as-found: nothing was measured to hold against a bound."],
    ),
    "spike-broke": (
        "spike",
        [
            result(
                "vm",
                BROKE,
                {"p95": 58.0, "error_rate": 0.6, "errors.gateway_timeout": 60.0},
                {P95: "missed", ERRORS: "missed"},
                load={"stages": [{"users": 50, "over": "10 s", "hold": "60 s"}]},
            )
        ],
        [
            "vm does not carry the spike: p95 58.0 s against < 10 s: missed and",
            "60 % failed, led by gateway_timeout (60).",
            "in a window of 70 s such a user sends 2 at most",
        ],
    ),
    "spike-undecided-on-cloud-run": (
        "spike",
        [result("run", UNDECIDED, CLOUD, {P95: "undecided"}, target="cloudrun")],
        [
            "run leaves open whether it carries the spike",
            "1 cold start; 3 of 100 uploads were served.",
        ],
    ),
    "endurance-each-outcome": (
        "endurance",
        [
            result(
                leaks=[
                    leak("rss_slope", "leak", 50000),
                    leak("fds_slope", "none", 0.0001),
                    leak("threads_slope", "undecided", 0.0001),
                ]
            )
        ],
        [
            "as-found leaks: memory 3.00 MB a minute (2.70 .. 3.30 at 95 %, 1.00 matters),"
            " that is memory, 98 KB an upload.",
            "as-found leaks none of these: open files 0.36 an hour",
            "as-found leaves open: threads 0.36 an hour",
            "Of the uploads of as-found, none failed.",
        ],
    ),
    "endurance-without-slopes": (
        "endurance",
        [result()],
        ["as-found says nothing of leaks: it takes a steady window of 5 min"],
    ),
    "stress-order": (
        "stress",
        [
            result(
                verdict=BROKE,
                load=STAGES,
                course=course(
                    crossing(P95, 4, 6, 12),
                    failures=[Failure(cause="gateway_timeout", t=80, users=17, count=200)],
                ),
            )
        ],
        [
            "as-found: first p95 < 10 s is crossed at 4 users (12 s); "
            "then gateway_timeout from 17 users on (200 in all, 80 s)."
        ],
    ),
    "stress-nothing-failed": (
        "stress",
        [result(load=STAGES, course=course())],
        ["as-found: nothing failed up to 100 users, in 100 uploads."],
    ),
    "stress-backpressure": (
        "stress",
        [
            result(
                "bp",
                BROKE,
                {"p95": 7.0, "errors.overloaded": 90.0},
                {P95: "met"},
                load=STAGES,
                limit=limited(Resource.BACKPRESSURE, "refused 90"),
                max_inflight_uploads=20,
            )
        ],
        [
            "With at most 20 uploads inside a worker, bp refused 90 uploads at once, and those "
            "that it accepted stayed within their p95 (p95 7.00 s against < 10 s: met).",
            "The limit is backpressure in bp (refused 90).",
        ],
    ),
    "exhaustion-fixed": (
        "pool_exhaustion",
        _pair("50-users", DRY, RELEASED),
        [
            "With the session held across the upload: hold / 50-users: 12 pool_timeout of 100",
            "With the session released before it: release / 50-users: 0 pool_timeout of 100",
            "Held against released: the fix holds at 50-users (12 against 0).",
        ],
    ),
    "exhaustion-not-fixed": (
        "pool_exhaustion",
        _pair("80-users", DRY, RELEASED | {"errors.db_refused": 4.0}),
        ["the fix does not suffice at 80-users (12 against 4)"],
    ),
    "exhaustion-alike": (
        "pool_exhaustion",
        _pair("20-users", RELEASED, RELEASED),
        ["nothing tells them apart at 20-users (0 against 0)"],
    ),
    "backlog": (
        "gcs_backlog",
        [
            result(
                metrics={"succeeded": 16.0, "attempts": 50.0, "wait": 27.0, "wait_p95": 50.0},
                load={"burst": 50},
            )
        ],
        [
            "as-found: 16 of 50 were served, after waiting 27.0 s on average and 50.0 s at the "
            "95th percentile, 6.0 times the report's 4.5 s; none failed."
        ],
    ),
    "backlog-nobody-served": (
        "gcs_backlog",
        [result(verdict=BROKE, metrics={"error_rate": 1.0}, load={"burst": 50})],
        ["as-found: of 50 users nobody was served; 100 % failed."],
    ),
    "cold-start": (
        "cold_start",
        [result(verdict=BROKE, metrics=CLOUD | {"queue_wait_refused": 10.0}, target="cloudrun")],
        [
            "as-found: 3 of 100 uploads were served, after 4.20 s of waiting for an instance on "
            "average; 1 cold start.",
            "47 were refused for want of an instance, after 10.0 s on average.",
        ],
    ),
    "advice": (
        "advice",
        list(on_the_vm().cells),
        ["Alone, what helps: to_thread (", "The whole is worse without to_thread ("],
    ),
    "memory": (
        "memory",
        [
            result("small", BROKE, {"oom_kills": 2.0, "errors.instance_died": 20.0} | CLOUD),
            result("big", metrics={"oom_kills": 0.0, "memory_instance": 2e8}),
            result("blind"),
        ],
        [
            "small: instances were killed 2 times for passing 256 MiB; 20 of 100 uploads died",
            "No instance was killed in big (peak 200 MB of 256 MiB).",
            "Kills were not counted in blind.",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_says_what_the_evidence_says(case: str) -> None:
    kind, cells, told = CASES[case]
    text = answer(summary(*cells), kind).text
    for phrase in told:
        assert phrase in text


def test_the_rules_are_those_that_a_spec_may_name() -> None:
    assert set(RULES) == set(get_args(Question))
    assert {kind for kind, _, _ in CASES.values()} == set(RULES)


def _figures_are_true(found: Answer, of: Summary) -> None:
    cells = {cell.id: cell for cell in of.cells}
    for figure in (figure for claim in found.claims for figure in claim.figures):
        if figure.name in BY_NAME:
            assert figure.value == cells[figure.cell].metrics[figure.name]
        if figure.name.startswith("leak "):
            slopes = {leak.metric: leak.slope for leak in cells[figure.cell].leaks}
            assert figure.value == slopes[figure.name.removeprefix("leak ")]


@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_one_that_is_stored(case: str) -> None:
    kind, cells, _ = CASES[case]
    _figures_are_true(answer(summary(*cells), kind), summary(*cells))


WITHOUT = (  # what may stand without a figure, because it claims nothing of the service
    *("says nothing of leaks", "A ramp reads a threshold late", "nothing was measured to hold"),
    *("Kills were not counted", "Not measured: ", NOTHING.text),
)


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_claimed_without_a_figure(case: str) -> None:
    kind, cells, _ = CASES[case]
    for claim in answer(summary(*cells, missing=["c"]), kind).claims:
        assert claim.figures or any(text in claim.text for text in WITHOUT)


@pytest.mark.parametrize("case", CASES)
def test_of_an_invalid_cell_nothing_is_said_but_that_it_is(case: str) -> None:
    kind, cells, _ = CASES[case]
    why = ("the generator sent late",)
    broken = [c.model_copy(update={"verdict": INVALID, "reasons": why}) for c in cells]
    found = answer(summary(*broken), kind)
    assert found.claims[0] == NOTHING
    assert {f.name for claim in found.claims for f in claim.figures} == {"verdict invalid"}
    assert found.text.count("the generator sent late") == 1
    [told] = found.claims[1:]
    assert {figure.cell for figure in told.figures} == {cell.id for cell in cells}


def test_what_several_cells_lack_is_told_once_with_their_names() -> None:
    of: list[tuple[str, Outcome, str]] = [
        ("a", INVALID, "the generator sent late"),
        ("b", UNDECIDED, "5 uploads are too few"),
        ("c", INVALID, "the generator sent late"),
        ("d", INVALID, "a part died"),
        ("e", UNDECIDED, "5 uploads are too few"),
    ]
    cells = [result(n, v).model_copy(update={"reasons": (why,)}) for n, v, why in of]
    assert [claim.text for claim in answer(summary(*cells), "general").claims if claim.figures] == [
        "a and c are invalid and say nothing: the generator sent late.",
        "d is invalid and says nothing: a part died.",
        "b and e are undecided as a whole: 5 uploads are too few.",
    ]


@pytest.mark.parametrize("kind", RULES)
def test_a_sound_cell_is_told_and_an_invalid_one_beside_it_named(kind: Question) -> None:
    sound = result("good", metrics={"oom_kills": 0.0, "p95": 4.0}, findings={P95: "met"})
    bad = result("bad", INVALID, {"p95": 99.0})
    found = answer(summary(sound, bad), kind)
    assert NOTHING not in found.claims
    assert "bad is invalid and says nothing" in found.text
    cited = {f.name for claim in found.claims for f in claim.figures if f.cell == bad.id}
    assert cited == {"verdict invalid"}


@pytest.mark.parametrize("kind", RULES)
def test_of_a_run_without_cells_nothing_is_claimed(kind: Question) -> None:
    found = answer(summary(missing=["a", "b"]), kind)
    assert found.text == f"{NOTHING.text} Not measured: a, b."


@pytest.mark.parametrize("kind", RULES)
def test_a_cell_with_bare_figures_is_no_error(kind: Question) -> None:
    bare = result("{odd} {0}", verdict=UNDECIDED, metrics={"attempts": 1.0})
    bare = bare.model_copy(update={"metrics": {"attempts": 1.0}})
    assert "{odd} {0} is undecided as a whole" in answer(summary(bare), kind).text


def test_a_place_that_no_cell_has_anything_for_is_an_error() -> None:
    assert phrases.claim("{p99} of {cell}", result()).text == "not measured of as-found"
    for template, cell in (("{p98}", result()), ("{p99}", None)):
        with pytest.raises(KeyError):
            phrases.claim(template, cell)


def test_an_answer_is_stored_with_its_run_and_read_back() -> None:
    kind, cells, _ = CASES["backlog"]
    with_answer = answered(summary(*cells), kind)
    assert Summary.model_validate_json(with_answer.model_dump_json()) == with_answer
    assert with_answer.answer == answer(summary(*cells), kind)
