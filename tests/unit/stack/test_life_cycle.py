"""A replica from one cell to the next: which parts start anew, and in which order what happens."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from lab.errors import PartFailed
from lab.model.experiment import Cell
from lab.model.knobs import TABLE, Knobs, Preset
from lab.model.replica import PARTS, services
from lab.paths import ROOT
from lab.stack import base
from lab.stack.base import LifeCycle, Replica, settings
from lab.stack.compose.environment import variables
from tests.fakes import make_cell

FILE = ROOT / "compose" / "replica.yaml"
SERVICES: dict[str, Any] = YAML(typ="safe").load(FILE)["services"]


class Journal(LifeCycle):
    """A stack whose parts are entries in a journal, and what the life cycle asks of them."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.down: dict[str, str] = {}
        self.fails: str | None = None
        self.connections = [0]
        self.uploads_left = False
        self.monitor = self.bucket = self.gateway = self.workers = cast("Any", self)

    def require(self, _cell: Cell) -> None:
        self.done.append("require")

    def _parts_down(self) -> dict[str, str]:
        return self.down

    def busy(self) -> bool:
        return self.uploads_left

    def app_connections(self) -> int:
        self.done.append("slots")
        return self.connections.pop(0) if len(self.connections) > 1 else self.connections[0]

    def empty(self) -> None:
        self.done.append("empty")

    def start(self, _knobs: Knobs) -> None:
        self.done.append("gateway")

    def stop(self) -> None:
        self.done.append("no gateway")

    def _begin_logs(self) -> None:
        self.done.append("logs")

    def _retire(self, parts: list[str]) -> None:
        self.done += [f"retire {part}" for part in parts]

    def _end(self, parts: list[str]) -> None:
        self.done.append(f"end {' '.join(parts)}")

    def _start(self, parts: list[str], _knobs: Knobs) -> None:
        if self.fails:
            raise PartFailed(self.fails)
        self.done.append(f"start {' '.join(parts)}")

    def _renew_backend(self, _knobs: Knobs) -> None:
        self.done.append("renew")

    def _lead_to(self, part: str) -> None:
        self.done.append(f"lead to {part}")

    def _replica(self) -> Replica:
        self.done.append("replica")
        return cast("Replica", SimpleNamespace(url="http://127.0.0.1:1", evidence=Path()))

    def to(self, **changed: Any) -> list[str]:
        """The parts that a cell with these settings starts anew."""
        target = changed.pop("target", "vm")
        self.done = []
        self.apply(make_cell(changed, target=target))
        return self.restarted


@pytest.fixture
def stack() -> Journal:
    opened = Journal()
    opened.to()
    return opened


VM = list(PARTS["vm"])


def test_the_first_cell_starts_all_in_their_order() -> None:
    stack = Journal()
    assert stack.to() == VM
    all_parts = " ".join(VM)
    assert stack.done == [
        *("require", "no gateway", "logs", f"end {all_parts}", f"start {all_parts}"),
        *("slots", "empty", "empty", "replica"),
    ]


def test_the_same_cell_again_starts_nothing_and_waits_for_no_slot(stack: Journal) -> None:
    assert stack.to() == []
    assert stack.done == ["require", "no gateway", "logs", "empty", "empty", "replica"]


OTHERS = Knobs.preset(Preset.RECOMMENDED).with_settings(
    {
        "balance": "least_conn",
        "gcs_call": "executor",
        "gcs_threads": 7,
        "db_call": "threadpool",
        "db_session": "hold",
        "db_cap": 20,
        "db_rtt": "1 ms",
        "gcs_latency": "1 s",
        "speech_latency": "4 s",
        "pool_class": "NullPool",
        "pool_timeout": "3 s",
        "pool_recycle": "60 s",
        "pool_pre_ping": "on",
        "anyio_threads": 6,
        "keep_alive": "9 s",
        "nginx_body": "1234567 B",
        "nginx_read_timeout": "77 s",
        "nginx_keepalive": 8,
        "nginx_connections": 512,
        "nginx_proxy_buffer": "64 KiB",
        "refuse": "after_body",
        "backend_body": "9 MB",
        "global_rate_limit": "100/min",
        "pooler": "transaction",
        "pooler_size": 5,
        "audio_threads": 3,
        "speech_threads": 4,
        "convert_call": "blocking",
        "leak": "memory",
        "leak_every": 3,
        "vm_cpus": 1,
        "vm_memory": "512 MiB",
        "speed": 20,
        "cloudrun_cpus": 1,
        "cloudrun_concurrency": 2,
        "cloudrun_workers": 2,
        "cloudrun_min_instances": 1,
        "cloudrun_max_instances": 2,
        "cloudrun_idle": "1 s",
        "cloudrun_pending": "1 s",
        "cloudrun_timeout": "1 s",
        "cloudrun_boost": "on",
        "cloudrun_enforce": "none",
        "health_probe": "1 h",
        "health_timeout": "2 s",
        "health_failures": 2,
    }
)
"""Another value for each knob."""


def test_every_knob_differs_in_the_two_settings() -> None:
    here, there = Knobs().as_text(), OTHERS.as_text()
    assert [name for name in here if here[name] == there[name]] == []


NGINX_ALONE = (
    *("nginx", "nginx_body", "nginx_read_timeout", "nginx_keepalive", "nginx_connections"),
    "nginx_proxy_buffer",
)
RESTARTS = {
    **{knob: ["nginx"] for knob in NGINX_ALONE},
    "db_cap": ["postgres", "backend"],
    "speed": ["backend", "nginx"],
    "balance": ["backend", "nginx"],
    "pooler": ["pgbouncer", "backend"],
    "pooler_size": [],
}
"""What a change of a knob starts anew, by the knob; the backend where nothing is said."""


@pytest.mark.parametrize("knob", [row.name for row in TABLE])
def test_a_knob_starts_what_it_must_anew_and_nothing_else(stack: Journal, knob: str) -> None:
    [part] = [row.part for row in TABLE if row.name == knob]
    expected = [] if part in ("run", "cloudrun") else RESTARTS.get(knob, ["backend"])
    assert stack.to(**{knob: OTHERS.as_text()[knob]}) == expected
    assert stack.to() == [part for part in expected if part in VM]
    assert ("slots" in stack.done) == ("backend" in expected)


def test_nginx_starts_anew_with_another_number_of_workers_that_have_ports_of_their_own(
    stack: Journal,
) -> None:
    assert stack.to(workers=2) == ["backend"]
    assert stack.to(workers=2, balance="round_robin") == ["backend", "nginx"]
    assert stack.to(workers=3, balance="round_robin") == ["backend", "nginx"]
    assert stack.to(workers=3, balance="round_robin", gcs_threads=7) == ["backend"]
    assert stack.to(workers=3, gcs_threads=7) == ["backend", "nginx"]
    assert stack.to(workers=2, gcs_threads=7) == ["backend"]


@pytest.mark.parametrize("knob", [row.name for row in TABLE])
def test_a_container_that_is_made_from_a_knob_starts_anew_with_it(knob: str) -> None:
    """By the Compose file: whose definition holds a variable that the knob changes."""
    here, there = Knobs(), Knobs().with_settings({knob: OTHERS.as_text()[knob]})
    before, after = variables(here), variables(there)
    changed = {name for name in before if before[name] != after[name]}
    assert changed
    for part in services("vm"):
        held = set(re.findall(r"\$\{(\w+)", str(SERVICES[part])))
        differ = settings(part, here) != settings(part, there)
        assert differ == bool(held & changed), part


def test_what_is_down_or_busy_starts_anew_with_what_needs_it(stack: Journal) -> None:
    for part, expected in {
        "nginx": ["nginx"],
        "fake-gcs-server": ["fake-gcs-server"],
        "speech": ["speech"],
        "toxiproxy": ["toxiproxy", "backend"],
        "postgres": ["postgres", "backend"],
        "engine": [],
    }.items():
        stack.down = {part: "was killed by signal 9"}
        assert stack.to() == expected
    stack.down = {}
    stack.uploads_left = True
    assert stack.to() == ["backend"]


def test_a_part_that_a_process_fault_met_starts_anew_once(stack: Journal) -> None:
    stack._forget(["toxiproxy"])
    assert stack.to() == ["toxiproxy", "backend"]
    assert stack.to() == []


def test_what_did_not_come_up_starts_anew_with_the_next_cell(stack: Journal) -> None:
    stack.fails = "nginx exited (1)"
    with pytest.raises(PartFailed, match="nginx exited"):
        stack.to(nginx="recommended")
    stack.fails = None
    assert stack.to() == ["nginx"]


def test_each_target_has_its_parts_and_the_gateway_comes_last(stack: Journal) -> None:
    assert stack.to(target="cloudrun") == ["front"]
    assert stack.done == [
        *("require", "no gateway", "retire backend", "retire nginx", "logs"),
        *("slots", "empty", "empty", "gateway", "replica"),
    ]
    assert stack.to(target="cloudrun") == ["front"]
    assert not [done for done in stack.done if done.startswith(("retire", "end"))]
    assert stack.to() == ["backend", "nginx"]


def test_the_last_backends_connections_are_waited_for(
    stack: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.connections = [2, 1, 0]
    stack.to(pool_size=3)
    assert stack.done.count("slots") == 3
    monkeypatch.setattr(base, "FREE_SLOTS_WITHIN_S", 0.0)
    stack.connections = [1]
    with pytest.raises(PartFailed, match=r"still has connections of a backend .* - see Postgres'"):
        stack.to(pool_size=4)


POOLED = {"pooler": "transaction"}


def test_pgbouncer_comes_with_its_knob_and_goes_with_it(stack: Journal) -> None:
    assert stack.to(**POOLED) == ["pgbouncer", "backend"]
    assert stack.done[:4] == ["require", "no gateway", "logs", "end pgbouncer backend"]
    assert sorted(stack.done[4:-2]) == ["empty", "empty", "slots", "start pgbouncer backend"]
    assert stack.done[-2:] == ["lead to pgbouncer", "replica"]
    assert stack.to(**POOLED) == []
    assert "lead to pgbouncer" not in stack.done
    assert stack.to() == ["backend"]
    assert stack.done[2] == "retire pgbouncer"
    assert stack.done[-2:] == ["lead to postgres", "replica"]
    assert not [done for done in stack.done if done.startswith(("end", "start")) and "pgb" in done]


@pytest.mark.parametrize(
    ("changed", "restarted"),
    [
        ({"pooler": "session"}, ["pgbouncer", "backend"]),
        ({"pooler_size": 5}, ["pgbouncer", "backend"]),
        ({"speed": 2}, ["pgbouncer", "backend", "nginx"]),
        ({"db_cap": 24}, ["postgres", "pgbouncer", "backend"]),
        ({"pool_size": 5}, ["pgbouncer", "backend"]),  # it keeps what the last backend's had
        ({"nginx": "recommended"}, ["nginx"]),
    ],
    ids=lambda value: ",".join(value),
)
def test_what_starts_anew_beside_pgbouncer(
    stack: Journal, changed: dict[str, Any], restarted: list[str]
) -> None:
    stack.to(**POOLED)
    assert stack.to(**POOLED | changed) == restarted


def test_a_new_toxiproxy_is_led_to_pgbouncer_again(stack: Journal) -> None:
    stack.to(**POOLED)
    stack.down = {"toxiproxy": "was killed by signal 9"}
    assert stack.to(**POOLED) == ["pgbouncer", "toxiproxy", "backend"]
    assert "lead to pgbouncer" in stack.done


def test_on_cloudrun_pgbouncer_starts_anew_with_every_gateway(stack: Journal) -> None:
    for _ in range(2):
        assert stack.to(target="cloudrun", **POOLED) == ["pgbouncer", "front"]
    assert stack.to(**POOLED) == ["pgbouncer", "backend", "nginx"]
