"""PgBouncer's settings, what its console says, and the way that leads to it."""

from __future__ import annotations

import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import requests

from lab import paths
from lab.errors import MissingComponent, PartFailed
from lab.model.knobs import Knobs
from lab.model.pooler import PoolerState
from lab.stack import nginx, pooler
from lab.stack.pooler import Console, Pooler
from lab.stack.postgres import Postgres


@pytest.fixture
def part(tmp_path: Path) -> Pooler:
    return Pooler(tmp_path, 6543, Postgres(tmp_path, 5433))


def rendered(part: Pooler, **knobs: Any) -> ConfigParser:
    """The settings that it is started with."""
    text = nginx.render(
        paths.data("compose", "pooler", "pgbouncer.ini").read_text(),
        part._values(Knobs().with_settings(knobs)),
    )
    config = ConfigParser(comment_prefixes=";", interpolation=None)
    config.read_string(text)
    return config


@pytest.mark.knob("pooler", "pooler_size", "speed")
@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"pooler": "session"}, {"pool_mode": "session", "default_pool_size": "20"}),
        ({"pooler": "transaction", "pooler_size": 3}, {"default_pool_size": "3"}),
        (
            {"pooler": "session"},
            {"query_wait_timeout": "120.000", "server_idle_timeout": "600.000"},
        ),
        (
            {"pooler": "session", "speed": 10},
            {
                "query_wait_timeout": "12.000",
                "server_lifetime": "360.000",
                "server_idle_timeout": "60.000",
                "server_check_delay": "3.000",
                "server_login_retry": "1.500",
            },
        ),
        (
            {"pooler": "session"},
            {
                "listen_addr": "127.0.0.1",
                "listen_port": "6543",
                "unix_socket_dir": "",
                "auth_type": "scram-sha-256",
                "max_client_conn": "10000",
            },
        ),
    ],
)
def test_what_follows_from_the_knobs(
    part: Pooler, knobs: dict[str, Any], expected: dict[str, str]
) -> None:
    config = rendered(part, **knobs)
    assert {name: config["pgbouncer"][name] for name in expected} == expected
    assert config["databases"]["students"] == "host=127.0.0.1 port=5433"


def test_without_it_a_line_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_name, **_path: None)
    with pytest.raises(MissingComponent) as missing:
        pooler.program()
    assert str(missing.value) == (
        "pgbouncer, which knob pooler asks for, is not on PATH"
        " - `apt install pgbouncer` (Debian), or its like elsewhere"
    )
    assert pooler.versions() == {}


class Answered:
    """A console that gives these rows."""

    def __init__(self, **rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def records(self, sql: str) -> list[dict[str, Any]]:
        return self._rows[sql.removeprefix("SHOW ")]


POOL = {
    "database": "students",
    "user": "app",
    "cl_active": 7,
    "cl_waiting": 2,
    "sv_active": 4,
    "sv_idle": 1,
    "sv_used": 2,
    "sv_tested": 1,
    "sv_login": 1,
    "maxwait": 1,
    "maxwait_us": 250_000,
    "pool_mode": "transaction",
}
STATS = {
    "database": "students",
    "total_wait_time": 1_500_000,
    "total_xact_count": 12,
}
OTHER = {"database": "pgbouncer", "user": "pgbouncer", "cl_active": 1}


@pytest.mark.parametrize(
    ("pools", "stats", "expected"),
    [
        ([OTHER, POOL], [OTHER, STATS], PoolerState(7, 2, 4, 4, 1.25, 1.5, 12)),
        ([OTHER], [OTHER], PoolerState(0, 0, 0, 0, 0.0, 0.0, 0)),
        ([{**POOL, "user": "postgres"}], [STATS], PoolerState(0, 0, 0, 0, 0.0, 1.5, 12)),
    ],
    ids=["among others", "before its first client", "of another role"],
)
def test_its_console_tells_of_the_applications_pool(
    pools: list[dict[str, Any]], stats: list[dict[str, Any]], expected: PoolerState
) -> None:
    console = Console("postgresql://postgres:x@127.0.0.1:1/students")
    vars(console)["_monitor"] = Answered(POOLS=pools, STATS=stats)
    assert console.state() == expected


class Answer:
    """What a Toxiproxy answers."""

    def __init__(self, ok: bool, upstream: str) -> None:
        self.ok, self.text = ok, "proxy not found"
        self._upstream = upstream

    def json(self) -> dict[str, str]:
        return {"upstream": self._upstream}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(ok=True, upstream="127.0.0.1:5"), "127.0.0.1:5"),
        (Answer(ok=False, upstream=""), "proxy not found"),
        (requests.ConnectionError(), "ConnectionError"),
    ],
)
def test_a_proxy_that_is_not_led_there_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: Answer | Exception, said: str
) -> None:
    class Client:
        def post(self, url: str, json: dict[str, str], timeout: float) -> Answer:
            assert (url, json) == ("http://127.0.0.1:1/proxies/db", {"upstream": "127.0.0.1:6"})
            assert timeout > 0
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(pooler, "http", Client)
    with pytest.raises(PartFailed) as failed:
        pooler.lead_to("http://127.0.0.1:1", "127.0.0.1:6")
    assert str(failed.value) == (
        f"Toxiproxy did not lead the proxy db to 127.0.0.1:6: {said} - see its log"
    )


def test_a_container_of_it_says_that_the_knob_is_off() -> None:
    script = paths.data("compose", "pooler", "pgbouncer.sh")
    ended = subprocess.run(
        ["/bin/sh", script], env={"LAB_POOLER": "off"}, capture_output=True, text=True, check=False
    )
    remedy = "set it to transaction or session"
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"pgbouncer: LAB_POOLER is off - {remedy}\n"
