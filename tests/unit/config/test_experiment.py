from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import read_experiment
from lab.errors import SpecError
from lab.model.experiment import DEFAULT_FAULTS
from lab.model.fault import Fault
from lab.model.knobs import Preset
from lab.model.load import BurstLoad, ClosedLoad, OpenLoad, StagesLoad


def strike(name: str, at: str, part: str = "backend") -> Fault:
    """A fault that strikes a part for 5 s."""
    keys = {"fault": name, "about": "x", "part": part, "strike": "kill", "at": at, "for": "5 s"}
    return Fault.model_validate(keys)


FAULTS = {
    name: Fault.model_validate({"fault": name, "about": "x", "proxy": name[:3].strip("-")})
    for name in ("gcs-latency", "db-distance", "gcs-down")
}
FAULTS |= {
    "backend-kill": strike("backend-kill", "10 s"),
    "backend-later": strike("backend-later", "15 s"),
    "backend-last": strike("backend-last", "15.1 s"),
    "proxy-kill": strike("proxy-kill", "10 s", "nginx"),
}

WHOLE = """\
experiment: workers-x-pool
about: which worker and pool sizes carry a class of 50?
target: vm
preset: as-found
knobs: {gcs_call: executor, upload_rate_limit: off}
matrix:
  workers: [1, 2, 4]
  pool:
    5+5: {pool_size: 5, max_overflow: 5}
    10+10: {pool_size: 10, max_overflow: 10}
load: {users: 50, ramp: 5 s, warmup: 10 s, window: 60 s}
faults: [gcs-latency, db-distance]
criteria: [p95 < 10 s, error_rate < 5 %]
repeat: 1
seed: 1
"""


def spec(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    return file


def with_lines(**lines: str) -> str:
    """A small spec, its lines replaced or added; `load` is line 2."""
    keys = {"experiment": "a", "load": "{users: 5}"} | lines
    return "".join(f"{key}: {text}\n" for key, text in keys.items() if text)


def test_a_whole_spec_is_read_as_written(tmp_path: Path) -> None:
    found = read_experiment(spec(tmp_path, WHOLE), FAULTS)
    assert found.preset is Preset.AS_FOUND
    assert found.knobs == {"gcs_call": "executor", "upload_rate_limit": "off"}
    assert list(found.matrix) == ["workers", "pool"]
    assert list(found.matrix["pool"]) == ["5+5", "10+10"]
    assert found.load == ClosedLoad(users=50)
    assert [str(criterion) for criterion in found.criteria] == ["p95 < 10 s", "error_rate < 5 %"]


def test_what_is_left_out_is_the_default(tmp_path: Path) -> None:
    found = read_experiment(spec(tmp_path, with_lines()), FAULTS)
    assert found.faults == DEFAULT_FAULTS
    assert (found.repeat, found.seed, found.matrix, found.knobs) == (1, 1, {}, {})


@pytest.mark.parametrize(
    ("load", "kind"),
    [
        ("{users: 5}", ClosedLoad),
        ("{stages: [{users: 5, over: 10 s}, {users: 0, hold: 5 s}]}", StagesLoad),
        ("{burst: 50, audio: 50 KB - 2 MB}", BurstLoad),
        ("{rate: 5/s, backoff: 0 s}", OpenLoad),
        ("{rate: 500/s, max_in_flight: 200, uplink: 1 MB/s}", OpenLoad),
        ("{users: 5, think: 2-5 s, backoff: 1 s - 1 min, uplink: off}", ClosedLoad),
    ],
)
def test_each_form_of_load_is_told_by_its_key(tmp_path: Path, load: str, kind: type) -> None:
    assert isinstance(read_experiment(spec(tmp_path, with_lines(load=load)), FAULTS).load, kind)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"lod": "{users: 5}", "load": ""}, ":2:1: 'lod' is not a key of an experiment - did you"),
        ({"load": ""}, ":1:1: an experiment has no 'load' - add it"),
        ({"experiment": "My_Exp"}, ":1:13: 'experiment': 'My_Exp' is not kebab-case - use a-z"),
        ({"about": "5"}, ":3:8: 'about': 5 is not text - write text"),
        ({"target": "mv"}, ":3:9: 'target': 'mv' is not one of vm, cloudrun - known are: vm, c"),
        ({"preset": "recomended"}, "is not one of as-found, recommended - did you mean 'recomm"),
        ({"preset": "off"}, "'preset': 'off' is not one of as-found, recommended - known are"),
        (
            {"stop_when_decided": "maybe"},
            ":3:20: 'stop_when_decided': maybe is not true or false - write true or false",
        ),
        ({"stop_when_decided": "1"}, "'stop_when_decided': 1 is not true or false"),
        ({"stop_when_decided": "true", "criteria": "[]"}, "'criteria' is empty - write at least"),
        (
            {"load": "{burst: 5}", "stop_when_decided": "true"},
            ":3:20: 'stop_when_decided': a load of kind burst has no window that could end early"
            " - leave it out, or give the load users or a rate",
        ),
        (
            {"load": "{stages: [{users: 5, hold: 9 s}]}", "stop_when_decided": "true"},
            ":3:20: 'stop_when_decided': a load of kind stages has no window that could end early",
        ),
        ({"repeat": "0"}, ":3:9: 'repeat': 0 is out of bounds - it must be >= 1"),
        ({"repeat": "1.5"}, "'repeat': 1.5 is not a whole number - write a whole number"),
        ({"repeat": "true"}, "'repeat': true is not a whole number"),
        ({"seed": "'1'"}, "'seed': 1 is not a whole number"),
        ({"seed": "[1]"}, "'seed': [1] is not a whole number"),
        (
            {"schema": "99"},
            ":3:9: was written for a later lab (schema 99; this one reads 1) - upgrade the lab",
        ),
        ({"schema": "one"}, ":3:9: 'schema': one is not a whole number"),
        (
            {"baseline": "a=1"},
            "'baseline': a=1 is not a mapping - write a mapping, as {workers: 1}",
        ),
        ({"load": "5"}, ":2:7: 'load' is not a mapping - write it like {users: 50, window: 60 s}"),
        ({"load": "{user: 5}"}, ":2:7: 'load' has none of users, stages, burst, rate - did you"),
        ({"load": "{think: 1 s, brst: 5}"}, "did you mean 'burst'?"),
        ({"load": "{users: 5, rate: 5/s}"}, "'load' has both users and rate - a load is of one"),
        ({"load": "{users: 5, windw: 5 s}"}, ":2:18: 'windw' is not a key of a load of kind clos"),
        ({"load": "{burst: 5, ramp: 5 s}"}, ":2:18: 'ramp' is not a key of a load of kind burst"),
        ({"load": "{users: 0}"}, ":2:15: 'users': 0 is out of bounds - it must be >= 1"),
        ({"load": "{users: 6000}"}, "'users': 6000 is out of bounds - it must be <= 5000"),
        ({"load": "{users: true}"}, "'users': true is not a whole number"),
        ({"load": "{users: 5, window: 60}"}, ":2:26: 'window': 60 has no unit - write the durat"),
        ({"load": "{users: 5, window: 60 sec}"}, "'window': '60 sec' is not a duration - write"),
        ({"load": "{users: 5, window: 0 s}"}, "'window': 0 s is out of bounds - it must be > 0 s"),
        ({"load": "{users: 5, window: 2 h, ramp: 25 h}"}, "'ramp': 25 h is out of bounds - it mus"),
        (
            {"load": "{users: 5, think: 5}"},
            ":2:25: 'think': 5 has no unit - write the duration like '10 s'",
        ),
        ({"load": "{users: 5, think: 5-2 s}"}, "'think': '5-2 s' runs backwards - write the small"),
        (
            {"load": "{users: 5, think: 2-5 sec}"},
            "'think': '2-5 sec' is not a range of durations - write it like '2-5 s' (units: us, ",
        ),
        (
            {"load": "{users: 5, backoff: 1 s - 25 h}"},
            ":2:27: 'backoff': 1 s - 1500 min is out of bounds - it must be <= 1440 min",
        ),
        ({"load": "{users: 5, backoff: [1, 2]}"}, ":2:27: 'backoff': [1, 2] is not a duration"),
        (
            {"load": "{users: 5, think: {low: 1, high: 2}}"},
            ":2:25: 'think' is a mapping - write it as one text",
        ),
        (
            {"load": "{users: 5, uplink: 1 MB}"},
            ":2:26: 'uplink': '1 MB' is not a size a second - write it like '250 KB/s' (units: B/s,"
            " KB/s, MB/s, GB/s, KiB/s, MiB/s, GiB/s)",
        ),
        ({"load": "{users: 5, uplink: 5/s}"}, "'uplink': '5/s' is not a size a second - write it"),
        ({"load": "{users: 5, uplink: 1000000}"}, "'uplink': '1000000' is not a size a second"),
        (
            {"load": "{users: 5, uplink: 999 B/s}"},
            ":2:26: 'uplink': 999 B/s is out of bounds - it must be >= 1 KB/s",
        ),
        (
            {"load": "{burst: 5, uplink: 2 GB/s}"},
            ":2:26: 'uplink': 2 GB/s is out of bounds - it must be <= 1 GB/s",
        ),
        (
            {"load": "{rate: 5/s, max_in_flight: 0}"},
            ":2:34: 'max_in_flight': 0 is out of bounds - it must be >= 1",
        ),
        (
            {"load": "{rate: 5/s, max_in_flight: 5001}"},
            "'max_in_flight': 5001 is out of bounds - it must be <= 5000",
        ),
        ({"load": "{rate: 5/s, max_in_flight: 5 s}"}, "'max_in_flight': 5 s is not a whole number"),
        (
            {"load": "{users: 5, max_in_flight: 5}"},
            ":2:18: 'max_in_flight' is not a key of a load of kind closed",
        ),
        ({"load": "{users: 5, audio: 200}"}, "'audio': 200 has no unit - write the size like '200"),
        (
            {"load": "{users: 5, audio: {low: 1, high: 2}}"},
            ":2:25: 'audio' is a mapping - write it",
        ),
        ({"load": "{rate: 5}"}, ":2:14: 'rate': '5' is not a rate - write it like '5/s'"),
        ({"load": "{rate: 1000/s}"}, "the load may have 105010 users at once; there are 5000 stud"),
        ({"load": "{stages: []}"}, ":2:16: 'stages' is empty - write at least one entry"),
        (
            {"load": "{stages: [{users: 5}]}"},
            ":2:16: the stages take no time at all - give a stage",
        ),
        (
            {"load": "{stages: [{users: 5, hold: 5 s}, {users: 9}]}"},
            ":2:40: stage 2 of 2 takes no time - give it `over` or `hold`",
        ),
        (
            {"load": "{stages: [{users: 5, over: -5 s}]}"},
            "'over': '-5 s' is not a duration - write it like '10 s'",
        ),
        (
            {"load": "{stages: [{users: -5, over: 5 s}]}"},
            "'users': -5 is out of bounds - it must be >= 0",
        ),
        (
            {"load": "{stages: [{users: 5, hold: 5 s, at: 3 s}]}"},
            "'at' is not a key of a stage",
        ),
        ({"load": "{stages: [{users: 0, hold: 5 s}]}"}, ":2:16: no stage has any users - give a"),
        (
            {"load": "{stages: [{users: 5, hol: 5 s}]}"},
            ":2:28: 'hol' is not a key of a stage - did",
        ),
        ({"load": "{stages: [{hold: 5 s}]}"}, ":2:17: a stage has no 'users' - add it"),
        ({"criteria": "[p96 < 5 s]"}, ":3:12: entry 1 of 'criteria': 'p96' is not a metric - did"),
        ({"criteria": "[p95 < 10]"}, "entry 1 of 'criteria': '10' is not a duration - write it"),
        ({"criteria": "[p95 < 10 s, p95]"}, ":3:24: entry 2 of 'criteria': 'p95' is not a crite"),
        ({"criteria": "p95 < 10 s"}, ":3:11: 'criteria': p95 < 10 s is not a list - write a list"),
        ({"criteria": "[]"}, ":3:11: 'criteria' is empty - write at least one entry"),
        ({"criteria": "[{metric: p95, op: <, bound: 10}]"}, ":3:12: '0' is a mapping - write it"),
        ({"faults": "[gcs-latncy]"}, ":3:10: there is no fault 'gcs-latncy' - did you mean 'gcs-l"),
        (
            {"faults": "[zzz]"},
            "there is no fault 'zzz' - known are: gcs-latency, db-distance, gcs-",
        ),
        ({"faults": "[gcs-down, gcs-down]"}, ":3:20: fault 'gcs-down' stands here twice - remove"),
        ({"faults": "gcs-down"}, "'faults': gcs-down is not a list - write a list"),
        (
            {"load": "{users: 5, window: 5 s}", "faults": "[gcs-down, backend-kill]"},
            ":3:20: backend-kill comes 10 s into the window, which is 5 s long - make the window"
            " longer, or leave the fault out",
        ),
        (
            {"load": "{users: 5, window: 10 s}", "faults": "[backend-kill]"},
            ":3:10: backend-kill comes 10 s into the window, which is 10 s long",
        ),
        (
            {"load": "{stages: [{users: 5, over: 5 s, hold: 3 s}]}", "faults": "[backend-kill]"},
            "backend-kill comes 10 s into the window, which is 8 s long",
        ),
        (
            {"load": "{burst: 5, timeout: 10 s}", "faults": "[backend-kill]"},
            "backend-kill comes 10 s into the window, which is 10 s long",
        ),
        (
            {"faults": "[backend-later, backend-kill]"},
            ":3:25: backend-later and backend-kill hit backend at the same time - leave one out,"
            " or give it another time",
        ),
    ],
)
def test_a_bad_spec_says_where_what_and_how_to_mend_it(
    tmp_path: Path, lines: dict[str, str], message: str
) -> None:
    file = spec(tmp_path, with_lines(**lines))
    with pytest.raises(SpecError) as error:
        read_experiment(file, FAULTS)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{file}:")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "faults",
    ["[gcs-down, backend-kill]", "[backend-kill, backend-last]", "[backend-kill, proxy-kill]"],
)
def test_strikes_may_join_other_faults_and_come_at_once_on_two_parts(
    tmp_path: Path, faults: str
) -> None:
    text = with_lines(load="{users: 5, window: 15.2 s}", faults=faults)
    assert ", ".join(read_experiment(spec(tmp_path, text), FAULTS).faults) == faults[1:-1]


def test_of_two_errors_the_first_in_the_file_is_told(tmp_path: Path) -> None:
    text = with_lines(load="{users: 0}", repeat="0")
    with pytest.raises(SpecError, match=":2:15: 'users'"):
        read_experiment(spec(tmp_path, text), FAULTS)
