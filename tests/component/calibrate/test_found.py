"""A calibration: when it is ok, and how it is shown."""

from __future__ import annotations

import json

from lab.calibrate import Calibration


def test_a_calibration_is_ok_when_all_is_and_something_was_measured() -> None:
    found = Calibration("embedded", "real")
    assert not found.ok
    found.add("auth, mean (ms)", 50.1234567, "50 ± 10", True)
    assert found.ok
    found.add("write, mean (ms)", 120.0, "100 ± 15", False)
    assert not found.ok


def test_a_calibration_as_json_and_as_text() -> None:
    found = Calibration("embedded", "real")
    found.add("auth, mean (ms)", 50.12345678, "50 +- 10", True)
    found.add("write, mean (ms)", 120.0, "100 +- 15", False)
    data = json.loads(json.dumps(found.as_json()))
    assert (data["stack"], data["toxiproxy"]) == ("embedded", "real")
    assert data["ok"] is False
    first = {"name": "auth, mean (ms)", "ok": True, "value": 50.123457, "bound": "50 +- 10"}
    assert data["measured"][0] == first
    lines = found.text(80).splitlines()
    assert "calibration, embedded stack, real Toxiproxy" in lines
    assert any("ok" in line and "auth" in line and "50.1235" in line for line in lines)
    assert any("OFF" in line and "write" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert not any("not measured" in line for line in lines)


def test_what_was_not_measured_is_said_and_counts_neither_way() -> None:
    found = Calibration("embedded", "real")
    found.not_measured.append("CPU quota: the embedded stack confines no part")
    assert not found.ok
    found.add("auth, mean (ms)", 50.0, "50 +- 10", True)
    assert found.ok
    assert found.as_json()["not_measured"] == ["CPU quota: the embedded stack confines no part"]
    assert found.text(80).splitlines()[-1] == (
        "not measured: CPU quota: the embedded stack confines no part"
    )
