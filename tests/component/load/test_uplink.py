"""Uploads over a slow line, at the pace of real-world time, however fast a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from lab.model.evidence import Cause
from lab.model.load import Load
from tests.component.load.conftest import Service, offer


def load_of(**keys: Any) -> Load:
    return TypeAdapter(Load).validate_python({"audio": "500 KB", **keys})


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_a_body_takes_its_size_over_the_uplink(
    tmp_path: Path, service: Service, speed: float
) -> None:
    done = offer(tmp_path, service.url, load_of(burst=5, uplink="250 KB/s"), speed)
    assert [(s.error, s.status) for s in done.samples] == [(None, 200)] * 5
    for sample in done.samples:
        assert sample.uplink_s == pytest.approx(2.0, rel=0.1)
        assert sample.uplink_s <= sample.latency_s <= 2.2 + 0.1 * speed
    lengths = {len(body) for _, body in service.received}
    assert all(length > 500_000 for length in lengths)
    assert {r.headers["content-length"] for r, _ in service.received} == {str(n) for n in lengths}


def test_without_an_uplink_no_line_is_busy(tmp_path: Path, service: Service) -> None:
    [sample] = offer(tmp_path, service.url, load_of(burst=1)).samples
    assert (sample.error, sample.uplink_s) == (None, 0.0)
    assert sample.latency_s < 1


def test_the_clients_timeout_holds_while_it_sends(tmp_path: Path, service: Service) -> None:
    load = load_of(
        users=1,
        ramp="0 s",
        warmup="0 s",
        window="5 s",
        uplink="100 KB/s",
        timeout="2 s",
        backoff="1 s",
    )
    done = offer(tmp_path, service.url, load, speed=2)
    assert len(done.samples) == 2
    for sample in done.samples:
        assert (sample.error, sample.status) == (Cause.CLIENT_TIMEOUT, 0)
        assert sample.latency_s == pytest.approx(2.0, abs=0.2)
        assert sample.uplink_s == pytest.approx(sample.latency_s, abs=0.2)


def test_a_line_that_is_free_again_carries_the_next_upload(
    tmp_path: Path, service: Service
) -> None:
    load = load_of(users=1, ramp="0 s", warmup="0 s", window="5 s", uplink="500 KB/s", audio="1 MB")
    done = offer(tmp_path, service.url, load, speed=2)
    assert [sample.error for sample in done.samples] == [None] * 3
    assert all(sample.uplink_s == pytest.approx(2.0, rel=0.1) for sample in done.samples)
