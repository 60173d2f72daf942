"""A calibration: when it is ok, and how it is shown."""

from __future__ import annotations

import json

from lab.calibrate import Calibration
from lab.cli.calibrate import render_calibration


def test_a_calibration_is_ok_when_all_is_and_something_was_measured() -> None:
    calibration = Calibration("embedded", "real")
    assert not calibration.ok
    calibration.add("auth, mean (ms)", 50.1234567, "50 ± 10", True)
    assert calibration.ok
    calibration.add("write, mean (ms)", 120.0, "100 ± 15", False)
    assert not calibration.ok


def test_a_calibration_as_json_and_as_text() -> None:
    calibration = Calibration("embedded", "real")
    calibration.add("auth, mean (ms)", 50.12345678, "50 +- 10", True)
    calibration.add("write, mean (ms)", 120.0, "100 +- 15", False)
    data = json.loads(json.dumps(calibration.as_json()))
    assert (data["stack"], data["toxiproxy"]) == ("embedded", "real")
    assert data["ok"] is False
    first = {"name": "auth, mean (ms)", "ok": True, "value": 50.123457, "bound": "50 +- 10"}
    assert data["measured"][0] == first
    lines = render_calibration(calibration, 80).splitlines()
    assert "calibration, embedded stack, real Toxiproxy" in lines
    assert any("ok" in line and "auth" in line and "50.1235" in line for line in lines)
    assert any("OFF" in line and "write" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert not any("not measured" in line for line in lines)


def test_what_was_not_measured_is_said_and_counts_neither_way() -> None:
    calibration = Calibration("embedded", "real")
    calibration.not_measured.append("CPU quota: the embedded stack confines no part")
    assert not calibration.ok
    calibration.add("auth, mean (ms)", 50.0, "50 +- 10", True)
    assert calibration.ok
    assert calibration.as_json()["not_measured"] == [
        "CPU quota: the embedded stack confines no part"
    ]
    assert render_calibration(calibration, 80).splitlines()[-1] == (
        "not measured: CPU quota: the embedded stack confines no part"
    )
