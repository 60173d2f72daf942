from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import parse_settings, read_experiment
from lab.errors import SpecError
from lab.model.knobs import TABLE, Knobs, Preset
from tests.unit.config.test_experiment import FAULTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knobs: {pool_sze: 5}", ":3:9: 'pool_sze' is not a knob - did you mean 'pool_size'?"),
        ("knobs: {zzz: 5}", ":3:9: 'zzz' is not a knob - `lab knobs` lists them"),
        ("knobs: {workers: 99}", ":3:18: 'workers': 99 is out of bounds - it must be <= 16"),
        ("knobs: {workers: true}", ":3:18: 'workers': true is not a whole number"),
        ("knobs: {workers: '2'}", "'workers': 2 is not a whole number"),
        ("knobs: {workers: [1, 2]}", "'workers' is not one value - to sweep it, make it an axis"),
        ("knobs: {pool_timeout: 10}", ":3:23: 'pool_timeout': 10 has no unit - write the duration"),
        ("knobs: {pool_timeout: 0 s}", "'pool_timeout': 0 s is out of bounds - it must be > 0 s"),
        ("knobs: {pool_timeout: 11 min}", "11 min is out of bounds - it must be <= 10 min"),
        ("knobs: {vm_memory: 1 MB}", "'vm_memory': 1 MB is out of bounds - it must be >= 64 MiB"),
        ("knobs: {gcs_call: exectuor}", "'exectuor' is not one of blocking, to_thread, executor, "),
        ("knobs: {gcs_latency: {low: 1, high: 2}}", "'gcs_latency' is not one value"),
        ("knobs: {gcs_latency: 5-2 s}", "'5-2 s' runs backwards - write the smaller end first"),
        ("knobs: {global_rate_limit: 500}", "'500' is not a rate limit - write it like '500/min'"),
        (
            "knobs: {max_overflow: -1}",
            ":3:23: 'max_overflow': -1 is out of bounds - it must be >= 0",
        ),
        ("knobs: {max_overflow: all}", ":3:23: 'max_overflow': all is not a whole number"),
        (
            "knobs: {nginx_body: 0 B}",
            ":3:21: 'nginx_body': 0 B is out of bounds - it must be >= 1 B",
        ),
        ("knobs: {nginx_body: 5}", ":3:21: 'nginx_body': 5 has no unit - write the size like '200"),
        ("knobs: {nginx_body: none}", ":3:21: 'nginx_body': 'none' is not a size - write it like"),
        ("knobs: {nginx_read_timeout: 25 h}", "'nginx_read_timeout': 25 h is out of bounds - it"),
        ("knobs: {nginx_read_timeout: on}", "'nginx_read_timeout': 'on' is not a duration - write"),
        ("knobs: {nginx_keepalive: 0}", "'nginx_keepalive': 0 is out of bounds - it must be >= 1"),
        ("knobs: {pool_class: none}", "'pool_class': 'none' is not one of QueuePool, NullPool"),
        ("knobs: {pool_class: null}", "'pool_class' has no value"),
        ("knobs: {pool_pre_ping: true}", "'pool_pre_ping': 'true' is not one of off, on"),
        ("knobs: {keep_alive: 5}", "'keep_alive': 5 has no unit - write the duration like '10 s'"),
        ("knobs: [workers]", ":3:8: 'knobs' is not a mapping - write knobs with values"),
        (
            "knobs: {speed: fast}",
            ":3:16: 'speed': 'fast' is no speed - write auto, or a number from 1 to 50",
        ),
        ("knobs: {speed: '5'}", "'speed': '5' is no speed - write auto, or a number from 1 to 50"),
        ("knobs: {speed: 0.5}", "'speed': 0.5 is out of bounds - it must be >= 1"),
        ("knobs: {speed: 51}", "'speed': 51 is out of bounds - it must be <= 50"),
        ("knobs: {speed: true}", "'speed': true is not a number"),
        ("knobs: {speed: .nan}", "'speed'"),
        ("knobs: {speed: [auto]}", "'speed' is not one value"),
        ("knobs: {workers: auto}", "'workers': auto is not a whole number"),
        (
            "matrix: {speed: [1, auto]}",
            ":3:21: 'speed: auto' is no value of an axis, for it is chosen cell by cell - write"
            " numbers, or set it in `knobs:`",
        ),
        ("matrix: {pace: {a: {speed: auto}}}", "'speed: auto' is no value of an axis, for it is"),
        (
            "matrix: {speed: [1, 2]}\nknobs: {speed: auto}",
            ":3:10: axis 'speed' sets 'speed', and so does 'knobs' - set it in one of them",
        ),
        ("matrix: {}", ":3:1: 'matrix' has no axes - give one, as `workers: [1, 2]`"),
        ("matrix: [workers]", ":3:1: 'matrix' has no axes"),
        ("matrix: {workers: []}", ":3:19: axis 'workers' is empty - give it values, or leave it"),
        ("matrix: {pool: {}}", ":3:16: axis 'pool' is empty"),
        ("matrix: {workers: 2}", ":3:19: axis 'workers' is one value - write a list of values, or"),
        ("matrix: {wrkers: [1]}", ":3:10: axis 'wrkers' is not a knob - did you mean 'workers'?"),
        ("matrix: {x9: [1]}", "axis 'x9' is not a knob - to set several knobs, write labels with"),
        ("matrix: {workers: [1, 99]}", ":3:23: 'workers': 99 is out of bounds - it must be <= 16"),
        ("matrix: {workers: [1, 2, 1]}", ":3:26: axis 'workers' has 1 twice - remove one"),
        ("matrix: {pool_timeout: [1 min, 60 s]}", "axis 'pool_timeout' has 60 s twice"),
        (
            "matrix: {workers: [1], workers: [2]}",
            ":3:24: 'workers' stands here again; it was first",
        ),
        (
            "matrix: {workers: [1], size: {a: {workers: 2}}}",
            ":3:24: axis 'size' sets 'workers', and so does axis 'workers' - set it in one of them",
        ),
        (
            "matrix: {workers: [1, 2]}\nknobs: {workers: 1}",
            ":3:10: axis 'workers' sets 'workers', and so does 'knobs' - set it in one of them",
        ),
        (
            "matrix: {case: {a: {gcs_threads: 2}, b: {workers: 2}}}\nknobs: {workers: 1}",
            ":3:10: axis 'case' sets 'workers', and so does 'knobs' - set it in one of them",
        ),
        (
            "matrix: {repeat: {a: {workers: 1}, b: {workers: 2}}}\nrepeat: 2",
            ":3:10: axis 'repeat' has the name by which the trials of a cell are told apart - give",
        ),
        ("matrix: {repeat: [1, 2]}", ":3:10: axis 'repeat' has the name by which the trials of a"),
        ("matrix: {relaxed: {a: {workers: 2}}}", ":3:10: axis 'relaxed' has the name by which the"),
        (
            "matrix: {step: {a: {workers: 2}}}",
            ":3:10: axis 'step' has the name by which the",
        ),
        ("matrix: {without: {a: {workers: 2}}}", ":3:10: axis 'without' has the name by which the"),
        ("matrix: {pool: {a: {pool_sze: 5}}}", ":3:21: 'pool_sze' is not a knob - did you mean"),
        ("matrix: {pool: {a: {pool_size: 5 s}}}", ":3:32: 'pool_size': 5 s is not a whole number"),
        ("matrix: {pool: {a: 5}}", ":3:20: 'a' is not a mapping - write knobs with values"),
        ("matrix: {pool: {a: {}}}", ":3:20: 'a' sets no knob - set one, or remove it"),
        (
            "matrix: {pool: {a: {pool_size: 5}, b: {pool_size: 5}}}",
            ":3:36: 'b' sets the same as 'a' - remove one of the two",
        ),
        ("matrix: {target: vm}", ":3:18: axis 'target' is not a list of targets - write [vm, clo"),
        ("matrix: {target: []}", ":3:18: axis 'target' is not a list of targets"),
        ("matrix: {target: {a: {workers: 1}}}", ":3:18: axis 'target' is not a list of targets"),
        (
            "matrix: {target: [vm, cloud-run]}",
            ":3:23: axis 'target': 'cloud-run' is not one of vm, cloudrun - did you mean 'cloudrun",
        ),
        ("matrix: {target: [vm, 5]}", ":3:23: axis 'target': '5' is not one of vm, cloudrun"),
        ("matrix: {target: [vm, vm]}", ":3:23: axis 'target' has vm twice - remove one"),
        (
            f"matrix: {{gcs_threads: {list(range(1, 102))}, audio_threads: {list(range(1, 11))}}}",
            ":3:1: the matrix makes 1010 cells; a run has 1000 at most - split it",
        ),
    ],
)
def test_a_bad_knob_or_axis_says_where_what_and_how_to_mend_it(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"experiment: a\nload: {{users: 5}}\n{text}\n")
    with pytest.raises(SpecError) as error:
        read_experiment(file, FAULTS)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{file}:3:")
    assert "\n" not in str(error.value)


def test_settings_are_read_as_a_spec_reads_them() -> None:
    found = parse_settings(["pool_size=5", "gcs_latency = 2-5 s", "upload_rate_limit=off"])
    assert found == {"pool_size": 5, "gcs_latency": "2-5 s", "upload_rate_limit": "off"}


def test_a_speed_is_a_setting_like_any_other_and_is_given_once() -> None:
    assert parse_settings(["pool_size=5"], speed=4.0) == {"pool_size": 5, "speed": 4.0}
    with pytest.raises(SpecError) as error:
        parse_settings(["speed=2"], speed=3.0)
    expected = "speed is given both as --speed and as --set speed - keep one of them"
    assert str(error.value) == expected


@pytest.mark.parametrize("preset", Preset)
def test_every_knob_can_be_set_from_the_command_line(preset: Preset) -> None:
    texts = [f"{name}={value}" for name, value in Knobs.preset(preset).as_text().items()]
    assert len(texts) == len(TABLE)
    assert Knobs().with_settings(parse_settings(texts)) == Knobs.preset(preset)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["pool_size"], "--set pool_size: not a setting - write it as pool_size=5"),
        (["=5"], "--set =5: '' is not a knob - `lab knobs` lists them"),
        (["pool_sze=5"], "--set pool_sze=5: 'pool_sze' is not a knob - did you mean 'pool_size'?"),
        (["pool_size="], "--set pool_size=: 'pool_size' has no value - give one"),
        (["pool_size=5 s"], "--set pool_size=5 s: 'pool_size': 5 s is not a whole number - write"),
        (["pool_timeout=10"], "'pool_timeout': 10 has no unit - write the duration like '10 s'"),
        (["workers=1", "workers=2"], "--set workers=2: 'workers' is set twice - keep one of the"),
    ],
)
def test_a_bad_setting_says_what_and_how_to_mend_it(settings: list[str], message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_settings(settings)
    assert message in str(error.value)


def test_a_target_that_an_axis_sweeps_is_not_given_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "experiment: a\nload: {users: 5}\ntarget: vm\nmatrix: {target: [vm, cloudrun]}\n"
    )
    with pytest.raises(SpecError) as error:
        read_experiment(file, FAULTS)
    expected = f"{file}:4:10: 'target' is given, and the axis 'target' sweeps it - keep one of them"
    assert str(error.value) == expected
