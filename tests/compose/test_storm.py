"""Each request gets exactly one answer, whatever happens to clients and real containers."""

from __future__ import annotations

from pathlib import Path

from tests.component.cloudrun.storm import run
from tests.component.cloudrun.test_storm import REQUESTS
from tests.compose import test_instance_containers

pytestmark = test_instance_containers.pytestmark


def test_each_request_gets_one_answer_or_its_client_left(tmp_path: Path) -> None:
    after = run("docker", REQUESTS, tmp_path)
    assert after.wrong(REQUESTS) == []
    assert min(after.outcomes["200"], after.outcomes["left"]) > 0
