from __future__ import annotations

from collections.abc import Sequence

import pytest

from lab.model.suggest import nearest, suggest


@pytest.mark.parametrize(
    ("name", "known", "otherwise", "remedy"),
    [
        ("wrkers", ("workers", "nginx"), None, "did you mean 'workers'?"),
        ("wrkers", ("workers", "nginx"), "`lab knobs` lists them", "did you mean 'workers'?"),
        ("zzz", ("workers", "nginx"), None, "known are: workers, nginx"),
        ("zzz", ("workers", "nginx"), "`lab knobs` lists them", "`lab knobs` lists them"),
        ("zzz", (), None, "known are: none"),
    ],
)
def test_a_remedy_names_the_nearest_or_what_is_known(
    name: str, known: Sequence[str], otherwise: str | None, remedy: str
) -> None:
    assert suggest(name, known, otherwise) == remedy
    assert (nearest(name, known) == "workers") is ("workers'" in remedy)
