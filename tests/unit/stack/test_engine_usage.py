"""What the engine says of a container, as a reading; a restart begins its counts anew."""

from __future__ import annotations

from typing import Any

import pytest

from lab.model.readings import Usage
from lab.stack.compose.watch import NOTHING, plus, usage


def stats(**more: Any) -> dict[str, Any]:
    return {
        "cpu_stats": {
            "cpu_usage": {"total_usage": 3_000_000_000},
            "throttling_data": {"throttled_time": 500_000_000},
        },
        "memory_stats": {"usage": 100, "stats": {"inactive_file": 30}},
        **more,
    }


NETWORKS = {
    "eth0": {"rx_bytes": 1000, "tx_bytes": 10, "rx_packets": 5},
    "eth1": {"rx_bytes": 200, "tx_bytes": 7, "rx_packets": 5},
}


def test_bytes_are_those_of_all_interfaces_together() -> None:
    read = usage(stats(networks=NETWORKS))
    assert read == Usage(cpu_s=3.0, memory=70, throttled_s=0.5, received=1200, sent=17)


@pytest.mark.parametrize("networks", [None, {}])
def test_a_container_of_which_none_is_told_has_no_bytes(networks: Any) -> None:
    read = usage(stats(networks=networks))
    assert (read.received, read.sent) == (None, None)
    assert (plus(NOTHING, read).received, plus(NOTHING, read).sent) == (None, None)


def test_what_was_before_a_restart_is_added() -> None:
    before = usage(stats(networks=NETWORKS))
    both = plus(plus(NOTHING, before), before)
    assert both == Usage(cpu_s=6.0, memory=70, throttled_s=1.0, received=2400, sent=34)
