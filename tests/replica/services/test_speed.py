"""`speed` divides every delay, timeout and window of the service; and what uvicorn is told."""

from __future__ import annotations

import time
from typing import Any

import pytest
import uvicorn
from sqlalchemy import NullPool

from lab.model.knobs import Knobs
from lab.model.replica import INSTANCE_VARIABLE
from lab.services.backend import __main__
from lab.services.backend.main import create_app
from lab.services.backend.settings import BackendSettings
from tests.live import Live, upload, wait_until

ADDRESSES = {
    "DATABASE_URL": "postgresql+psycopg2://app:secret@127.0.0.1:1/students",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
    "SPEECH_URL": "http://127.0.0.1:1",
    "AUDIO_BUCKET": "bucket",
}


def make_settings(**knobs: Any) -> BackendSettings:
    return BackendSettings.from_env({**Knobs().with_settings(knobs).as_env(), **ADDRESSES})


@pytest.mark.knob("speed", "pool_size", "max_overflow", "pool_timeout", "pool_recycle")
@pytest.mark.parametrize("speed", [1, 20])
def test_the_engine_is_made_as_the_knobs_say(speed: int) -> None:
    settings = make_settings(
        speed=speed, pool_size=7, max_overflow=3, pool_timeout="12 s", pool_recycle="60 s"
    )
    pool = create_app(settings).state.database.engine.pool
    assert pool.size() == 7
    assert pool._max_overflow == 3
    assert pool._timeout == 12 / speed
    assert pool._recycle == 60 / speed
    assert not pool._pre_ping


@pytest.mark.knob("pool_class", "max_overflow", "pool_pre_ping")
def test_a_pool_without_a_limit_is_sqlalchemys_own() -> None:
    unlimited = create_app(make_settings(max_overflow="unlimited")).state.database.engine.pool
    assert (unlimited.size(), unlimited._max_overflow) == (10, -1)
    null = create_app(make_settings(pool_class="NullPool", pool_pre_ping="on")).state.database
    assert isinstance(null.engine.pool, NullPool)
    assert null.engine.pool._pre_ping
    assert null.figures() == {
        "pool_size": 0,
        "checked_out": 0,
        "overflow": 0,
        "waiting": 0,
        "abandoned": 0,
    }


@pytest.mark.knob("speed")
@pytest.mark.parametrize("speed", [1, 20])
def test_the_storage_clients_own_times_are_divided(speed: int) -> None:
    uploader = create_app(make_settings(speed=speed)).state.uploader
    retry = uploader._retry
    assert uploader._timeout == 60 / speed
    assert (retry._initial, retry._maximum, retry._multiplier, retry._timeout) == (
        1 / speed,
        60 / speed,
        2,
        120 / speed,
    )


@pytest.mark.knob("speed", "workers", "keep_alive")
@pytest.mark.parametrize("speed", [1, 20])
def test_uvicorn_is_told_the_workers_and_little_else(
    monkeypatch: pytest.MonkeyPatch, speed: int
) -> None:
    told = start(monkeypatch, {"speed": speed, "workers": 3, "keep_alive": "9 s"})
    assert told == {
        "forked": True,
        "factory": True,
        "host": "127.0.0.1",
        "ports": [8123],
        "workers": 3,
        "loop": "lab.services.backend.core.evidence:MeteredLoop",
        "timeout_keep_alive": 9 / speed,
        "proxy_headers": False,
        "access_log": False,
    }


@pytest.mark.parametrize(
    ("knobs", "env"),
    [
        ({"workers": 1}, {}),
        ({"workers": 3, "vm_memory": "2 GB"}, {}),
        ({"workers": 3}, {INSTANCE_VARIABLE: "instance-1"}),
    ],
)
def test_workers_are_uvicorns_own_where_their_start_or_memory_is_measured(
    monkeypatch: pytest.MonkeyPatch, knobs: dict[str, Any], env: dict[str, str]
) -> None:
    assert start(monkeypatch, knobs, env)["forked"] is False
    apps: list[str] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **_options: apps.append(app))
    __main__.run(forked=False, ports=[8123])
    assert apps == ["lab.services.backend.main:create_app"]


def start(
    monkeypatch: pytest.MonkeyPatch, knobs: dict[str, Any], more: dict[str, str] | None = None
) -> dict[str, Any]:
    """What the program would run, with these knobs in its environment."""
    told: dict[str, Any] = {}
    env = {**Knobs().with_settings(knobs).as_env(), **ADDRESSES, **(more or {})}
    for name, value in {**env, "HOST": "127.0.0.1", "PORT": "8123"}.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patch:
        patch.setattr(__main__, "run", lambda **options: told.update(options))
        __main__.main()
    return told


@pytest.mark.replica
@pytest.mark.knob("speed")
def test_the_window_of_a_rate_limit_is_divided(live: Live) -> None:
    replica = live({"speed": 50, "upload_rate_limit": "1/min"})
    began = time.monotonic()
    assert upload(replica.url).status_code == 200
    assert upload(replica.url).status_code == 429
    # A minute at speed 50 is 1.2 s; undivided the wait would end in failure.
    wait_until(lambda: upload(replica.url).status_code == 200, within=30)
    assert time.monotonic() - began >= 60 / 50


@pytest.mark.parametrize("missing", ADDRESSES)
def test_the_service_does_not_start_without_its_addresses(missing: str) -> None:
    env = {name: value for name, value in ADDRESSES.items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        BackendSettings.from_env(env)
