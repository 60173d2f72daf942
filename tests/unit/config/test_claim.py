"""Claim files: read as they are written, and refused with their place and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.claims import undecidable
from lab.config import claim_files, read_claim
from lab.errors import SpecError
from lab.model.claims import ReportClaim
from tests.fakes import make_cell

CELLS = {
    "one": make_cell(cell_id="one"),
    "two": make_cell(cell_id="two"),
    "burst": make_cell(cell_id="burst", load={"burst": 50}),
    "short": make_cell(cell_id="short", load={"users": 1, "window": "10 s"}),
    "staging": make_cell(cell_id="staging", target="cloudrun"),
    "rate": make_cell(cell_id="rate", load={"rate": "1/s"}),
}

HEAD = 'claim: c\nsection: "1"\nsays: It holds.\n'
BASE = HEAD + "cells:\n  a: {spec: s, cell: one}\n  b: {spec: s, cell: two}\nconfirmed_if:\n"
ONE = HEAD + "cells: {a: {spec: s, cell: one}}\nconfirmed_if:\n"


def read(folder: Path, text: str) -> ReportClaim:
    file = folder / "c.yaml"
    file.write_text(text)
    return read_claim(file, ["s", "storage"], lambda _spec: CELLS, undecidable)


def of(cell: str, condition: str) -> str:
    return HEAD + f"cells: {{a: {{spec: s, cell: {cell}}}}}\nconfirmed_if:\n  - {condition}\n"


def test_a_claim_is_read_as_written(tmp_path: Path) -> None:
    text = BASE + (
        "  - {cell: a, criterion: error_rate < 10 %}\n"
        "  - {cell: a, criterion: throughput > 1.8 x baseline, beside: b}\n"
        "  - {cell: b, limit: event_loop}\n"
    )
    claim = read(tmp_path, text)
    assert [str(condition) for condition in claim.confirmed_if] == [
        "a: error_rate < 10 %",
        "a: throughput > 1.8 x that of b",
        "b: the limit is event_loop",
    ]
    assert str(claim.cells["b"]) == "s/two"


BAD = {
    "unknown-key": (
        ONE + "  - {cell: a, limit: pool}\nrefuted: yes\n",
        "7:1: 'refuted' is not a key of a claim - did you mean 'refuted_if'?",
    ),
    "key-of-a-cell": (
        HEAD + "cells: {a: {spec: s, cel: one}}\nconfirmed_if: [{cell: a, limit: pool}]\n",
        "4:22: 'cel' is not a key of a claim's cell - did you mean 'cell'?",
    ),
    "key-of-a-condition": (
        ONE + "  - {cell: a, criteria: p95 < 10 s}\n",
        "6:15: 'criteria' is not a key of a condition - did you mean 'criterion'?",
    ),
    "no-conditions": (
        HEAD + "cells: {a: {spec: s, cell: one}}\n",
        "1:1: a claim has no 'confirmed_if' - add it",
    ),
    "empty-conditions": (
        HEAD + "cells: {a: {spec: s, cell: one}}\nconfirmed_if: []\n",
        "5:15: 'confirmed_if' is empty - write at least one entry, or leave it out",
    ),
    "another-name": (
        BASE.replace("claim: c", "claim: d") + "  - {cell: a, limit: pool}\n",
        "1:8: the claim is called 'd', the file 'c' - write 'claim: c', or rename the file",
    ),
    "unknown-spec": (
        HEAD + "cells: {a: {spec: storag, cell: x}}\nconfirmed_if: [{cell: a, limit: pool}]\n",
        "4:19: there is no spec 'storag' - did you mean 'storage'?",
    ),
    "unknown-cell": (
        of("ones", "{cell: a, limit: pool}"),
        "4:28: s has no cell 'ones' - did you mean 'one'?",
    ),
    "unknown-label": (
        ONE + "  - {cell: aa, limit: pool}\n",
        "6:12: 'aa' is not one of the claim's cells - did you mean 'a'?",
    ),
    "unknown-limit": (
        ONE + "  - {cell: a, limit: pol}\n",
        "6:22: 'limit': 'pol' is not one of event_loop,",
    ),
    "unknown-metric": (
        ONE + "  - {cell: a, criterion: p96 < 10 s}\n",
        "6:26: 'criterion': 'p96' is not a metric - did you mean",
    ),
    "neither": (
        ONE + "  - {cell: a}\n",
        "6:5: a condition has either a criterion or a limit - write one of them, as",
    ),
    "both": (
        ONE + "  - {cell: a, limit: pool, criterion: p95 < 10 s}\n",
        "6:5: a condition has either a criterion or a limit - write one of them, as",
    ),
    "beside-nothing": (
        ONE + "  - {cell: a, criterion: throughput > 2 x baseline}\n",
        "6:26: criterion 'throughput > 2 x baseline' is held against no other cell - name it, as",
    ),
    "beside-in-vain": (
        BASE + "  - {cell: a, criterion: p95 < 10 s, beside: b}\n",
        "8:46: only a criterion of the form 'throughput > 1.8 x baseline' is held beside a cell -",
    ),
    "beside-itself": (
        ONE + "  - {cell: a, criterion: throughput > 2 x baseline, beside: a}\n",
        "6:61: 'a' is held against itself - name another cell",
    ),
    "twice": (
        ONE + "  - {cell: a, limit: pool}\n  - {cell: a, limit: pool}\n",
        "7:5: condition 'a: the limit is pool' stands here twice - remove one",
    ),
    "idle-cell": (
        BASE + "  - {cell: a, limit: pool}\n",
        "6:3: no condition is about cell 'b' - leave it out",
    ),
    "refuted-without-what-it-takes": (
        ONE + "  - {cell: a, limit: pool}\nrefuted_if:\n  - {cell: a, limit: memory}\n",
        "8:3: 'refuted_if' and 'takes' go together: what lies between is undecided - say what",
    ),
    "takes-in-vain": (
        ONE + "  - {cell: a, limit: pool}\ntakes: more\n",
        "7:8: 'refuted_if' and 'takes' go together: what lies between is undecided - leave 'takes'",
    ),
    "in-what-refutes": (
        ONE + "  - {cell: a, limit: pool}\nrefuted_if: [{cell: b, limit: memory}]\ntakes: more\n",
        "7:21: 'b' is not one of the claim's cells - known are: a",
    ),
    "both-ways": (
        ONE + "  - {cell: a, limit: pool}\nrefuted_if: [{cell: a, limit: pool}]\ntakes: more\n",
        "7:14: condition 'a: the limit is pool' stands here twice - remove one",
    ),
    "no-such-requests": (
        of("one", "{cell: a, criterion: p95(progress) < 1 s}"),
        "6:26: criterion 'p95(progress) < 1 s': the load has no progress requests - give progress",
    ),
    "other-target": (
        of("staging", "{cell: a, criterion: errors.gateway_timeout == 0}"),
        "6:26: criterion 'errors.gateway_timeout == 0': there is no errors.gateway_timeout on",
    ),
    "no-pooler": (
        of("one", "{cell: a, criterion: pooler_wait < 1 s}"),
        "6:26: criterion 'pooler_wait < 1 s': pooler is off, so there is no pooler_wait",
    ),
    "nothing-dropped": (
        of("rate", "{cell: a, criterion: dropped == 0}"),
        "6:26: criterion 'dropped == 0': only an open load with max_in_flight drops arrivals",
    ),
    "too-short-for-a-slope": (
        of("one", "{cell: a, criterion: rss_slope < 1 KB}"),
        "6:26: criterion 'rss_slope < 1 KB': the window is 1 min long - a slope takes 5 min;",
    ),
    "too-few": (
        of("short", "{cell: a, criterion: error_rate < 1 %}"),
        "6:26: criterion 'error_rate < 1 %': about ",
    ),
    "burst-compared": (
        HEAD
        + "cells: {a: {spec: s, cell: burst}, b: {spec: s, cell: one}}\nconfirmed_if:\n"
        + "  - {cell: a, criterion: throughput > 2 x baseline, beside: b}\n",
        "6:26: criterion 'throughput > 2 x baseline' compares loads of kind burst and closed -",
    ),
    "two-bursts": (
        HEAD
        + "cells: {a: {spec: s, cell: burst}, b: {spec: s, cell: burst}}\nconfirmed_if:\n"
        + "  - {cell: a, criterion: throughput > 2 x baseline, beside: b}\n",
        "6:26: criterion 'throughput > 2 x baseline': of a load of kind burst nobody knows how",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad_input(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, text)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'c.yaml'}:{message}")
    assert "\n" not in told
    assert caught.value.exit_code == 2


def test_a_folder_without_a_claim_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no claim is there - a claim is a YAML file"):
        claim_files(tmp_path)
