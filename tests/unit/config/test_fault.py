from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import read_fault, read_faults
from lab.errors import SpecError
from lab.model.experiment import DEFAULT_FAULTS
from lab.model.fault import Bandwidth, KnobRef, Latency, ProcessFault
from lab.model.units import Span
from lab.paths import ROOT

FAULTS = ROOT / "faults"


def fault(tmp_path: Path, toxics: str, **lines: str) -> Path:
    return written(tmp_path, {"fault": "a", "about": "x", "proxy": "gcs", "toxics": toxics} | lines)


def written(tmp_path: Path, keys: dict[str, str]) -> Path:
    file = tmp_path / "a.yaml"
    file.write_text("".join(f"{key}: {text}\n" for key, text in keys.items() if text))
    return file


def test_every_fault_of_the_project_is_read_by_its_name() -> None:
    found = read_faults(FAULTS)
    assert list(found) == sorted(file.stem for file in FAULTS.glob("*.yaml"))
    assert set(DEFAULT_FAULTS) <= set(found)


@pytest.mark.parametrize(
    ("toxic", "typed"),
    [
        ("{type: latency, delay: 2-5 s}", Latency(type="latency", delay=Span(low=2, high=5))),
        (
            "{type: latency, delay: {knob: db_rtt}, stream: upstream}",
            Latency(type="latency", delay=KnobRef(knob="db_rtt"), stream="upstream"),
        ),
        (
            "{type: bandwidth, rate: 100 KB, toxicity: 20 %}",
            Bandwidth.model_validate({"type": "bandwidth", "rate": "100 KB", "toxicity": "20 %"}),
        ),
    ],
)
def test_a_toxic_is_read_as_written(tmp_path: Path, toxic: str, typed: object) -> None:
    assert read_fault(fault(tmp_path, f"[{toxic}]")).toxics == (typed,)


@pytest.mark.parametrize(
    ("toxics", "lines", "message"),
    [
        (
            "[{type: latncy}]",
            {},
            ":4:10: entry 1 of 'toxics': 'latncy' is not a type of toxic - di",
        ),
        ("[{delay: 5 s}]", {}, ":4:10: entry 1 of 'toxics' has no 'type' - write one of latency,"),
        ("[5]", {}, ":4:10: entry 1 of 'toxics': 5 is not a mapping - write a mapping"),
        ("[{type: latency}]", {}, ":4:10: a latency toxic has no 'delay' - add it"),
        ("[{type: latency, delay: 5}]", {}, ":4:33: 'delay': 5 has no unit - write the duration"),
        ("[{type: latency, delay: 5 sec}]", {}, ":4:33: 'delay': '5 sec' is not a duration - "),
        (
            "[{type: latency, delay: {low: 1, high: 2}}]",
            {},
            ":4:33: 'delay' is a mapping - write it as one text",
        ),
        (
            "[{type: latency, delay: {knob: gcs_latncy}}]",
            {},
            ":4:40: 'knob': 'gcs_latncy' is not one of gcs_latency, db_rtt, speech_",
        ),
        ("[{type: latency, delay: {knb: db_rtt}}]", {}, ":4:34: 'knb' is not a key of a delay - "),
        ("[{type: timeout, aftr: 5 s}]", {}, ":4:26: 'aftr' is not a key of a timeout toxic - did"),
        (
            "[{type: bandwidth, rate: 10 B}]",
            {},
            "'rate': 10 B is out of bounds - it must be >= 1 K",
        ),
        (
            "[{type: timeout, after: 1 s, toxicity: 200 %}]",
            {},
            "'toxicity': 200 % is out of bounds - it must be <= 100 %",
        ),
        ("", {"down": "yes"}, ":4:7: 'down': yes is not true or false - write true or false"),
        ("", {"down": "false"}, ":1:1: the fault does nothing - give it toxics, or `down: true`"),
        ("", {}, ":1:1: the fault does nothing"),
        ("[{type: timeout, after: 1 s}]", {"down": "true"}, ":5:1: 'down' and 'toxics' cannot bot"),
        ("", {"fault": "b"}, ":1:8: the fault is called 'b', the file 'a' - write 'fault: a', or"),
        ("", {"proxy": "dbs"}, ":3:8: 'proxy': 'dbs' is not one of gcs, db, speech - did you me"),
        ("", {"about": ""}, ":1:1: a fault has no 'about' - add it"),
        ("", {"proxy": ""}, ":1:1: the fault has no place - give it a proxy with toxics or `down:"),
        ("", {"proxi": "db"}, ":4:1: 'proxi' is not a key of a fault - did you mean 'proxy'?"),
    ],
)
def test_a_bad_fault_says_where_what_and_how_to_mend_it(
    tmp_path: Path, toxics: str, lines: dict[str, str], message: str
) -> None:
    file = fault(tmp_path, toxics, **lines)
    with pytest.raises(SpecError) as error:
        read_fault(file)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{file}:")
    assert "\n" not in str(error.value)


STRIKE = {"fault": "a", "about": "x", "part": "backend", "strike": "kill"}
STRIKE |= {"at": "10 s", "for": "5 s"}


@pytest.mark.parametrize(
    ("lines", "planned"),
    [
        ({}, ProcessFault("a", "backend", "kill", 10.0, 5.0)),
        ({"at": "0 s"}, ProcessFault("a", "backend", "kill", 0.0, 5.0)),
        (
            {"part": "postgres", "strike": "restart", "for": "0 s"},
            ProcessFault("a", "postgres", "restart", 10.0, 0.0),
        ),
        (
            {"part": "nginx", "strike": "stop", "for": "1 min"},
            ProcessFault("a", "nginx", "stop", 10.0, 60.0),
        ),
        (
            {"part": "fake-gcs-server", "strike": "pause"},
            ProcessFault("a", "fake-gcs-server", "pause", 10.0, 5.0),
        ),
    ],
)
def test_a_strike_is_read_as_written(
    tmp_path: Path, lines: dict[str, str], planned: ProcessFault
) -> None:
    found = read_fault(written(tmp_path, STRIKE | lines))
    assert found.process_fault == planned
    assert (found.proxy, found.down, found.toxics) == (None, False, ())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"part": "backnd"}, ":3:7: 'part': 'backnd' is not one of backend, postgres, fake-gcs-se"),
        ({"part": "toxiproxy"}, ":3:7: 'part': 'toxiproxy' is not one of backend, postgres, fake"),
        (
            {"strike": "kil"},
            ":4:9: 'strike': 'kil' is not one of kill, pause, restart, stop - did you mean 'kill'?",
        ),
        ({"at": "10"}, ":5:5: 'at': 10 has no unit - write the duration like '10 s'"),
        ({"at": "-1 s"}, ":5:5: 'at': '-1 s' is not a duration - write it like '10 s'"),
        ({"at": "25 h"}, ":5:5: 'at': 25 h is out of bounds - it must be <= 1440 min"),
        ({"for": "5 sec"}, ":6:6: 'for': '5 sec' is not a duration - write it like '10 s'"),
        ({"strike": ""}, ":1:1: a fault of a part has no 'strike' - add it"),
        ({"at": ""}, ":1:1: a fault of a part has no 'at' - add it"),
        ({"for": ""}, ":1:1: a fault of a part has no 'for' - add it"),
        (
            {"for": "", "lasts": "5 s"},
            ":6:1: 'lasts' is not a key of a fault - known are: fault, about",
        ),
        ({"part": ""}, ":1:1: the fault has no place - give it a proxy with toxics or `down: tru"),
        ({"parts": "backend"}, ":7:1: 'parts' is not a key of a fault - did you mean 'part'?"),
        ({"proxy": "db"}, ":3:1: 'proxy' and 'part' cannot both be: a fault has one place - make"),
        ({"down": "true"}, ":7:1: 'down' is not a key of a fault of a part - give it strike, at"),
        ({"toxics": "[]"}, ":7:1: 'toxics' is not a key of a fault of a part - give it strike,"),
        (
            {"part": "", "proxy": "db"},
            ":3:1: 'strike' is not a key of a fault of a proxy - give it toxics or `down: true`",
        ),
        (
            {"for": "0 s"},
            ":6:6: a kill that lasts no time leaves no trace - give it some, as 5 s; a restart",
        ),
        ({"strike": "pause", "for": "0 ms"}, ":6:6: a pause that lasts no time leaves no trace"),
        (
            {"part": "postgres"},
            ":4:9: a killed postgres forgets commits that it has acknowledged - restart, stop or",
        ),
    ],
)
def test_a_bad_strike_says_where_what_and_how_to_mend_it(
    tmp_path: Path, lines: dict[str, str], message: str
) -> None:
    file = written(tmp_path, STRIKE | lines)
    with pytest.raises(SpecError) as error:
        read_fault(file)
    assert str(error.value).startswith(f"{file}{message}")
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such folder - faults are read from it, one a file"):
        read_faults(tmp_path / "faults")
