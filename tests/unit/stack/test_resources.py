"""What the engine cannot remove, and what it may not be asked for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from lab.errors import MachineError
from lab.stack.compose import resources

REFUSED = "error while removing network: network lab_control has active endpoints"


class StuckNetwork:
    """A network that the engine keeps, for the endpoints that it believes to be there."""

    name = "lab_control"

    def __init__(self, containers: list[str]) -> None:
        self.containers = containers

    def remove(self) -> None:
        raise APIError(REFUSED)

    def reload(self) -> None:
        """As it was."""


def engine(network: StuckNetwork) -> Any:
    empty = SimpleNamespace(list=lambda **_: [])
    networks = SimpleNamespace(list=lambda **_: [network])
    return SimpleNamespace(containers=empty, networks=networks, volumes=empty)


def test_an_empty_network_that_the_engine_miscounts_is_left_to_its_next_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "MISCOUNT_WITHIN_S", 0.0)
    assert resources.remove(engine(StuckNetwork([])), "replica-lab-a") == 0


def test_a_network_that_something_is_in_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "MISCOUNT_WITHIN_S", 0.0)
    monkeypatch.setattr(resources, "REMOVE_WITHIN_S", 0.0)
    with pytest.raises(MachineError, match=r"still has lab_control: .* active .* - remove them"):
        resources.remove(engine(StuckNetwork(["a container of somebody"])), "replica-lab-a")
