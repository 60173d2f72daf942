"""From when on a window may end, and what keeps it whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lab.capacity import longest, search_for
from lab.model.experiment import Cell, Experiment
from lab.model.fault import Fault
from lab.model.physics import longest_timeout
from lab.plan import earliest_end, expand, never_early
from tests.fakes import make_cell

WINDOW = {"users": 5, "window": "10 min"}


def fault(**keys: Any) -> Fault:
    return Fault.model_validate({"fault": "x", "about": "x", **keys})


STALLING = fault(proxy="gcs", toxics=[{"type": "timeout", "after": "0 s"}])
NARROW = fault(proxy="gcs", toxics=[{"type": "bandwidth", "rate": "100 KB"}])
DOWN, FAR = fault(proxy="gcs", down=True), fault(proxy="db", down=True)
LATE = fault(proxy="gcs", toxics=[{"type": "latency", "delay": {"knob": "gcs_latency"}}])
KILL = fault(part="backend", strike="kill", at="1 s", **{"for": "1 s"})


def stopping(
    settings: dict[str, Any] | None = None,
    load: dict[str, Any] | None = None,
    criteria: Sequence[str] = ("error_rate < 5 %",),
    **more: Any,
) -> Cell:
    made = make_cell(settings, cell_id="c", load=load or WINDOW, criteria=criteria, **more)
    return made.model_copy(update={"stop_when_decided": True})


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        (stopping(), 60),  # nginx's, before the client's of 2 min
        (stopping({"nginx": "recommended"}), 30),
        (stopping({"nginx_read_timeout": "5 s"}), 10),  # the pool's
        (stopping({"nginx_read_timeout": "5 s", "pool_class": "NullPool"}), 5),
        (stopping({"nginx_read_timeout": "off"}), 120),
        (stopping({"pool_timeout": "90 s"}), 90),
        (stopping(load={**WINDOW, "timeout": "40 s"}), 40),
        (stopping(load={**WINDOW, "uplink": "100 KB/s", "audio": "1 MB - 2 MB"}), 80),
        (stopping(target="cloudrun"), 120),
        (stopping({"cloudrun_timeout": "20 s"}, target="cloudrun"), 20),
        (stopping(faults=[LATE]), 60),
        (stopping({"gcs_latency": "50-61 s"}, faults=[LATE]), 180),
        (stopping(faults=[STALLING]), 180),
        (stopping(faults=[NARROW]), 180),
        (stopping(faults=[DOWN]), 180),
        (stopping(faults=[FAR]), 60),
    ],
)
def test_the_longest_time_out_is_that_of_whoever_waits_longest(cell: Cell, seconds: float) -> None:
    assert longest_timeout(cell) == seconds


@pytest.mark.parametrize(
    ("load", "seconds"),
    [
        ({"users": 5, "ramp": "5 s", "warmup": "10 s", "window": "60 s"}, 65),
        ({"users": 5, "ramp": "5 s", "warmup": "100 s", "window": "60 s"}, 105),
        ({"users": 5, "ramp": "0 s", "warmup": "0 s", "window": "61 s"}, 60),
        ({"rate": "5/s", "warmup": "10 s", "window": "60 s"}, 60),
        ({"rate": "5/s", "warmup": "10 s", "window": "60 s", "timeout": "5 s"}, 10),
    ],
)
def test_a_window_may_end_when_the_longest_time_out_can_have_struck_each_user(
    load: dict[str, Any], seconds: float
) -> None:
    assert earliest_end(stopping(load=load)) == seconds
    assert earliest_end(make_cell(load=load)) is None


NEVER = "c: never stops early: "


@pytest.mark.parametrize(
    ("cell", "messages"),
    [
        (stopping(), []),
        (
            stopping(load={"users": 5, "ramp": "5 s", "warmup": "0 s", "window": "1 min"}),
            [f"{NEVER}a time-out of 1 min can strike until 65 s, and the window ends at 65 s"],
        ),
        (
            stopping(criteria=["p95 < 10 s", "pg_connections <= 20", "throughput > 1/s"]),
            [
                f"{NEVER}'pg_connections <= 20' is no claim about a share of uploads",
                f"{NEVER}'throughput > 1/s' is no claim about a share of uploads",
            ],
        ),
        (
            stopping(criteria=["error_rate == 0 %", "p95_all < 150 s"]),
            [
                f"{NEVER}no number of uploads shows on which side of 'error_rate == 0 %' it is",
                f"{NEVER}no number of uploads shows on which side of 'p95_all < 150 s' it is",
            ],
        ),
        (stopping(faults=[KILL]), [f"{NEVER}x is planned by time"]),
        (
            stopping(load={"burst": 5}),
            [f"{NEVER}a load of kind burst has no window that could end early"],
        ),
        (stopping(criteria=[]), [f"{NEVER}it has no criteria"]),
        (make_cell(criteria=["throughput > 1/s"]), []),
    ],
)
def test_what_keeps_a_window_whole_is_said_before_the_run(cell: Cell, messages: list[str]) -> None:
    assert never_early(cell) == messages
    if messages:
        assert earliest_end(cell) is None


def test_every_cell_of_a_spec_stops_or_none_but_no_trial_of_a_search_does() -> None:
    keys = {"experiment": "a", "load": {"users": 5}, "faults": [], "stop_when_decided": True}
    [cell] = expand(Experiment.model_validate(keys), {})
    assert cell.stop_when_decided
    assert not longest(cell, search_for(cell)).stop_when_decided
    [cell] = expand(Experiment.model_validate({**keys, "stop_when_decided": False}), {})
    assert not cell.stop_when_decided
