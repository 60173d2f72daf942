from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.plan.expand import cell_ids

AXES = st.lists(st.text(min_size=1), max_size=4, unique=True)


@given(st.data(), AXES)
def test_ids_are_folder_safe_and_unique_whatever_the_labels(
    data: st.DataObject, names: list[str]
) -> None:
    labels = st.tuples(*(st.text() for _ in names))
    rows = data.draw(st.lists(labels, min_size=1, max_size=8, unique=True))
    axes = [dict(zip(names, row, strict=True)) for row in rows]
    ids = cell_ids(axes, "alone")
    assert all(re.fullmatch(r"[A-Za-z0-9=,.+_-]{1,120}", name) for name in ids)
    assert len({name.casefold() for name in ids}) == len(axes)
    assert sorted(ids) == sorted(cell_ids(axes[::-1], "alone"))


def test_an_id_reads_like_its_axes() -> None:
    axes = [{"workers": "2", "pool": "5+5", "gcs_latency": "2 s - 5 s", "limit": "500/min"}]
    assert cell_ids(axes, "alone") == ["workers=2,pool=5+5,gcs_latency=2s-5s,limit=500_min"]
    assert cell_ids([{}], "as-found") == ["as-found"]


@pytest.mark.parametrize(
    ("labels", "ids"),
    [
        (["1/2", "1 / 2", "1:2"], ["a=1_2-d939926f", "a=1_2-ce09d6ff", "a=1_2-673aeeb0"]),
        (["a b", "ab", "c"], ["a=ab-c8687a08", "a=ab-fb8e20fc", "a=c"]),
        (["A", "a"], ["a=A-559aead0", "a=a-ca978112"]),
        (["x,y", "x=y", "x_y"], ["a=x_y-968e772c", "a=x_y-14bf50d8", "a=x_y-f9068e81"]),
    ],
)
def test_labels_that_read_alike_keep_a_name_of_their_own(labels: list[str], ids: list[str]) -> None:
    """Whatever stands beside them, and in whatever order."""
    made = cell_ids([{"a": label} for label in labels], "x")
    assert made == ids
    assert cell_ids([{"a": label} for label in labels[::-1]], "x") == ids[::-1]


def test_no_label_leaves_its_folder() -> None:
    assert cell_ids([{"a": "../../etc"}], "x") == ["a=.._.._etc"]
