"""The same lesson on the replica in containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lesson_walk import WALK_S, walk

pytestmark = [
    pytest.mark.compose,
    pytest.mark.long,
    pytest.mark.timeout(WALK_S),
    pytest.mark.usefixtures("client"),
]


def test_a_lesson_from_its_question_to_its_solution(tmp_path: Path) -> None:
    walk(tmp_path, "compose")
