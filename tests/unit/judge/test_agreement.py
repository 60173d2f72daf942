"""Samples against the audit, the records, and each other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lab.judge.agreement import disagreements
from lab.judge.trial import Trial
from lab.model.evidence import Audit, Cause, Evidence, Observation, PartDown, Sample
from tests.unit.judge.observations import at_rest, audit, cell, record, sample

DAMAGED = " - the samples are damaged: run the cell again"
STORED = [sample(20.0 + n, recording=f"id-{n}", request=f"0-{n}") for n in range(5)]
FAILED = [sample(30.0, error=Cause.GCS_ERROR, request="1-1")]
RECORDED = [record(f"0-{n}") for n in range(5)]


def told(
    uploads: Sequence[Sample], audited: Audit, records: Sequence[Evidence] = (), *more: Evidence
) -> list[str]:
    others = [line for line in at_rest() if line.kind not in ("audit", "upload")]
    seen = Observation(samples=tuple(uploads), evidence=(*others, *records, *more, audited))
    return list(disagreements(Trial(cell(), seen)))


@pytest.mark.parametrize(
    "audited",
    [
        audit(rows=5, objects=5),
        audit(rows=5, objects=7, orphans=["a", "b"]),
        audit(rows=6, objects=6, unheard=["x"]),
        audit(rows=4, objects=4, lost=["id-0"]),
        audit(rows=4, objects=5, lost=["id-0"], orphans=["id-0"]),
        audit(rows=6, objects=6, unheard=None),
    ],
)
def test_an_audit_that_accounts_for_every_success_agrees(audited: Audit) -> None:
    assert told([*STORED, *FAILED], audited, RECORDED) == []


@pytest.mark.parametrize(
    ("audited", "by_audit"),
    [
        (audit(rows=4, objects=4), 4),
        (audit(rows=789, objects=789), 789),
        (audit(), 0),
        (audit(rows=5, objects=5, orphans=["a"]), 4),
        (audit(rows=3, objects=3, unheard=None), 3),
    ],
)
def test_an_audit_of_other_uploads_is_told(audited: Audit, by_audit: int) -> None:
    assert told(STORED, audited) == [
        f"5 uploads were answered 200 by the samples, but {by_audit} by the audit{DAMAGED}"
    ]


def test_an_upload_has_one_recording_and_one_request() -> None:
    twice = [*STORED, STORED[1], *FAILED]
    assert told(twice, audit(rows=6, objects=6)) == [
        f"1 recordings stand in more than one sample (id-1 is the first){DAMAGED}",
        f"1 requests stand in more than one sample (0-1 is the first){DAMAGED}",
    ]


@pytest.mark.parametrize(
    ("records", "missing"),
    [
        (RECORDED, None),
        ([], None),  # an earlier lab kept none
        (RECORDED[1:], "0-0"),
        ([*RECORDED[:4], record("0-4", status=None)], "0-4"),
        ([*RECORDED[:4], record("0-4", status=502, cause="gcs_error")], "0-4"),
    ],
)
def test_a_success_was_recorded_by_its_worker(
    records: Sequence[Evidence], missing: str | None
) -> None:
    [*reasons] = told(STORED, audit(rows=5, objects=5), records)
    assert reasons == (
        [
            "1 uploads were answered 200, but no worker recorded that"
            f" ({missing} is the first){DAMAGED}"
        ]
        if missing
        else []
    )


def test_where_the_audit_could_not_be_made_nothing_is_held_against_it() -> None:
    down = PartDown(t=90, part="audit", why="storage does not answer")
    assert told(STORED, audit(), RECORDED, down) == []
