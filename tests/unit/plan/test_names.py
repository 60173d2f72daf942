from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from lab.plan.expand import cell_ids

LABELS = st.dictionaries(st.text(min_size=1), st.text(), max_size=4)


@given(st.lists(LABELS, max_size=8))
def test_ids_are_folder_safe_and_unique_whatever_the_labels(axes: list[dict[str, str]]) -> None:
    ids = cell_ids(axes, "alone")
    assert all(re.fullmatch(r"[A-Za-z0-9=,.+_-]{1,140}", name) for name in ids)
    assert len({name.casefold() for name in ids}) == len(axes)
    assert ids == cell_ids(axes, "alone")


def test_an_id_reads_like_its_axes() -> None:
    axes = [{"workers": "2", "pool": "5+5", "gcs_latency": "2 s - 5 s", "limit": "500/min"}]
    assert cell_ids(axes, "alone") == ["workers=2,pool=5+5,gcs_latency=2s-5s,limit=500_min"]
    assert cell_ids([{}], "as-found") == ["as-found"]


def test_labels_that_differ_only_in_what_is_replaced_stay_apart() -> None:
    assert cell_ids([{"a": "1/2"}, {"a": "1 / 2"}, {"a": "1:2"}], "x") == [
        "a=1_2",
        "a=1_2-2",
        "a=1_2-3",
    ]


def test_no_label_leaves_its_folder() -> None:
    assert cell_ids([{"a": "../../etc"}], "x") == ["a=.._.._etc"]
