"""A lesson on the embedded replica, whole, by its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lesson_walk import WALK_S, walk

pytestmark = [pytest.mark.replica, pytest.mark.long, pytest.mark.timeout(WALK_S)]


def test_a_lesson_from_its_question_to_its_solution(tmp_path: Path) -> None:
    walk(tmp_path, "embedded")
