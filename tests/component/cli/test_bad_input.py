"""Bad input: one line on stderr that says what, where and how to mend it, and the exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.errors import StoreError
from lab.paths import ROOT
from lab.stack import toxiproxy
from tests import command
from tests.cli_fixture import Command, the_line
from tests.fakes import sample_run as sample

MATRIX = ROOT / "experiments" / "workers-x-pool.yaml"
BASIC = ROOT / "experiments" / "as-found.yaml"
WHOLE = "experiment: e\nload: {users: 4}\n"


BAD_SPECS = {
    "unknown-knob": (
        "experiment: e\nknobs: {poolsize: 5}\nload: {users: 4}\n",
        "2:9: 'poolsize' is not a knob - did you mean 'pool_size'?",
    ),
    "wrong-unit": (
        "experiment: e\nknobs: {pool_timeout: 10 KB}\nload: {users: 4}\n",
        "2:23: 'pool_timeout': '10 KB' is not a duration - write it like '10 s'",
    ),
    "no-unit": (
        "experiment: e\nload: {users: 4, window: 60}\n",
        "2:26: 'window': 60 has no unit - write the duration like '10 s'",
    ),
    "out-of-bounds": (
        "experiment: e\nknobs: {workers: 99}\nload: {users: 4}\n",
        "2:18: 'workers': 99 is out of bounds - it must be <= 16",
    ),
    "empty-matrix": (
        WHOLE + "matrix: {}\n",
        "3:1: 'matrix' has no axes - give one, as `workers: [1, 2]`",
    ),
    "empty-axis": (
        WHOLE + "matrix: {workers: []}\n",
        "3:19: axis 'workers' is empty - give it values, or leave it out",
    ),
    "duplicate-axis": (
        WHOLE + "matrix:\n  workers: [1]\n  workers: [2]\n",
        "5:3: 'workers' stands here again; it was first given in line 4 - keep one",
    ),
    "unknown-metric": (
        WHOLE + "criteria: [eror_rate < 5 %]\n",
        "3:12: entry 1 of 'criteria': 'eror_rate' is not a metric - did you mean 'error_rate'?",
    ),
    "unreadable": (
        "experiment: e\nload: {users: 4\n",
        "3:1: not YAML: expected ',' or '}', but got '<stream end>'",
    ),
    "strike-after-the-window": (
        "experiment: e\nload: {users: 4, window: 5 s}\nfaults: [backend-kill]\n",
        "3:10: backend-kill comes 10 s into the window, which is 5 s long - make the window",
    ),
    "two-strikes-on-a-part": (
        WHOLE + "faults: [backend-kill, backend-pause]\n",
        "3:24: backend-kill and backend-pause hit backend at the same time - leave one out",
    ),
    "a-knob-set-twice": (
        WHOLE + "knobs: {workers: 2}\nmatrix: {case: {a: {workers: 1}, b: {db_cap: 9}}}\n",
        "4:10: axis 'case' sets 'workers', and so does 'knobs' - set it in one of them",
    ),
    "an-axis-of-repeats": (
        WHOLE + "repeat: 2\nmatrix: {repeat: {a: {workers: 1}, b: {workers: 2}}}\n",
        "4:10: axis 'repeat' has the name by which the trials of a cell are told apart - give it",
    ),
    "equal-cells": (
        WHOLE + "matrix: {gcs_threads: [8, 16]}\n",
        " cells 'gcs_threads 8' and 'gcs_threads 16' are equal: gcs_threads has no effect on them,",
    ),
    "a-criterion-of-the-other-target": (
        WHOLE + "target: cloudrun\ncriteria: [errors.gateway_timeout == 0]\n",
        " criterion 'errors.gateway_timeout == 0': there is no errors.gateway_timeout on target",
    ),
    "a-size-of-400-digits": (
        f"experiment: e\nload: {{users: 4, audio: {'9' * 400} KB}}\n",
        "2:25: 'audio': '99999999999999999999...' has 403 characters, too many for a range of",
    ),
    "a-span-of-400-digits": (
        f"experiment: e\nload: {{users: 4, think: {'9' * 400} s}}\n",
        "2:25: 'think': '99999999999999999999...' has 402 characters, too many for a range of",
    ),
    "a-latency-of-years": (
        WHOLE + "knobs: {gcs_latency: 99999 h}\n",
        "3:22: 'gcs_latency': 5999940 min is out of bounds - it must be <= 60 min",
    ),
    "audio-that-no-memory-holds": (
        "experiment: e\nload: {users: 4, audio: 50 KB - 3 GiB}\n",
        "2:25: audio of 3 GiB cannot be held ready - ask for 100 MiB or less",
    ),
    "audio-without-a-sample": (
        "experiment: e\nload: {users: 4, audio: 0 B}\n",
        "2:25: audio of 0 B is not a WAV file - ask for 46 B or more",
    ),
    "digits-of-another-script": (
        "experiment: e\nload: {users: 4, window: \u0661\u0660 s}\n",
        "2:26: 'window': '\u0661\u0660 s' is not a duration - write it like '10 s'",
    ),
    "an-infinite-bound": (
        WHOLE + "criteria: [pg_connections < inf]\n",
        "3:12: entry 1 of 'criteria': 'inf' is not a number - write it like '20'",
    ),
    "a-bound-that-is-no-number": (
        WHOLE + "criteria: [pg_connections < nan]\n",
        "3:12: entry 1 of 'criteria': 'nan' is not a number - write it like '20'",
    ),
    "a-negative-bound": (
        WHOLE + "criteria: [cpu_backend < -1 cores]\n",
        "3:12: entry 1 of 'criteria': '-1' is not a number - write it like '20'",
    ),
    "a-criterion-of-blanks": (
        WHOLE + f"criteria: ['p95 < 1{' ' * 100_000}x']\n",
        "3:12: entry 1 of 'criteria': 'p95 < 1 ...' has 100008 characters, too many for a crit",
    ),
    "20000-values": (
        WHOLE + f"matrix: {{db_cap: [{','.join(map(str, range(20_000)))}]}}\n",
        "3:48854: more than 10000 keys and values - split the file",
    ),
    "2000-values": (
        WHOLE + f"matrix: {{db_cap: [{','.join(map(str, range(2000)))}]}}\n",
        "3:1: the matrix makes 2000 cells; a run has 1000 at most - split it",
    ),
    "4000-labels-of-one-axis": (
        WHOLE + f"matrix: {{load: {{{','.join(f'a{i}: {{}}' for i in range(4000))}}}}}\n",
        "3:1: the matrix makes 4000 cells; a run has 1000 at most - split it",
    ),
    "too-many-faults": (
        WHOLE + f"faults: [{','.join(['gcs-latency'] * 9000)}]\n",
        "3:9: 'faults' has too many entries - it may have 50 at most",
    ),
    "480000-faults": (
        WHOLE + f"faults: [{','.join('f' * 480_000)}]\n",
        " larger than 200 KB - a spec is a few KB; is this the right file?",
    ),
    "too-many-criteria": (
        WHOLE + f"criteria: [{','.join(['p95 < 1 s'] * 9000)}]\n",
        "3:11: 'criteria' has too many entries - it may have 50 at most",
    ),
    "too-many-stages": (
        f"experiment: e\nload: {{stages: [{','.join(['{users: 1}'] * 600)}]}}\n",
        "2:16: 'stages' has too many entries - it may have 100 at most",
    ),
    "a-criterion-twice": (
        WHOLE + "criteria: [p95 < 1 s, p95 < 1000 ms]\n",
        "3:23: criterion 'p95 < 1 s' stands here twice - remove one",
    ),
    "a-tag-on-a-mapping": (
        "experiment: e\nload: !!python/object/apply:os.system {users: 4}\n",
        "2:7: a tag (tag:yaml.org,2002:python/object/apply:os.system) is not read here - leave it",
    ),
    "a-merge-key": (
        "experiment: e\nload: &x {users: 4}\nknobs: {<<: *x}\n",
        "2:7: an anchor (&x) is not read here - leave it out",
    ),
    "arrivals-that-none-drops": (
        WHOLE + "criteria: [dropped == 0]\n",
        " criterion 'dropped == 0': only an open load with max_in_flight drops arrivals - leave",
    ),
    "a-body-limit-that-the-preset-has": (
        WHOLE + "matrix: {nginx_body: [preset, 1 MiB]}\n",
        " cells 'nginx_body preset' and 'nginx_body 1 MiB' are equal: what nginx_body says is what"
        " the preset of nginx says - leave one of the two out",
    ),
    "later-schema": (
        "schema: 2\n" + WHOLE,
        "1:9: was written for a later lab (schema 2; this one reads 1) - upgrade the lab",
    ),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_a_bad_spec(lab: Command, tmp_path: Path, case: str) -> None:
    text, message = BAD_SPECS[case]
    file = command.spec(tmp_path, text)
    ended = lab("run", file, "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith(f"{file}:{message}")


def test_an_open_load_faster_than_the_generator_is_refused_before_the_run(
    lab: Command, tmp_path: Path
) -> None:
    load = "{rate: 1000/s, timeout: 1 s, window: 5 s}"
    file = command.spec(tmp_path, f"experiment: e\nload: {load}\nknobs: {{speed: 20}}\n")
    for more in (["--dry-run"], ["--stack", "embedded"]):
        ended = lab("run", file, *more)
        assert (ended.code, ended.out) == (2, "")
        assert "at speed 20 are 20000 uploads a second, and the load gen" in the_line(ended.err)


USAGE: dict[str, tuple[list[str | Path], str]] = {
    "no-spec": (["run"], "no spec is given - write one, as `lab run as-found`"),
    "missing-file": (["run", "nosuch.yaml"], "nosuch.yaml: no such file"),
    "set-without-value": (
        ["run", MATRIX, "--set", "workers"],
        "--set workers: not a setting - write it as pool_size=5",
    ),
    "set-unknown-knob": (
        ["run", MATRIX, "--set", "db_capp=3"],
        "--set db_capp=3: 'db_capp' is not a knob - did you mean 'db_cap'?",
    ),
    "set-wrong-unit": (
        ["up", "--set", "pool_timeout=10"],
        "--set pool_timeout=10: 'pool_timeout': 10 has no unit",
    ),
    "set-out-of-bounds": (
        ["up", "--set", "db_cap=0"],
        "--set db_cap=0: 'db_cap': 0 is out of bounds - it must be >= 1",
    ),
    "set-what-is-swept": (
        ["run", MATRIX, "--set", "workers=3"],
        "'workers' is swept by the spec's matrix",
    ),
    "speed-twice": (
        ["up", "--speed", "2", "--set", "speed=3"],
        "speed is given both as --speed and as --set speed - keep one of them",
    ),
    "speed-that-is-no-number": (["up", "--speed", "nan"], "Invalid value for '--speed': 'nan' is"),
    "speed-without-end": (
        ["up", "--speed", "1e400"],
        "Invalid value for '--speed': '1e400' is",
    ),
    "most-load-that-is-no-number": (
        ["threshold", MATRIX, "--most-load", "nan"],
        "Invalid value for '--most-load': 'nan' is not a number in decimal digits",
    ),
    "most-load-without-end": (
        ["threshold", MATRIX, "--most-load", "inf"],
        "Invalid value for '--most-load': 'inf' is not a number in decimal digits",
    ),
    "users-below-none": (["run", MATRIX, "--users", "-3"], "Invalid value for '--users': '-3' is"),
    "users-beyond-all": (
        ["run", MATRIX, "--users", "5001"],
        "Invalid value for '--users': 5001 is not in the range 1<=x<=5000",
    ),
    "users-of-400-digits": (
        ["run", MATRIX, "--users", "9" * 400],
        f"Invalid value for '--users': '{'9' * 40}' is not a number in decimal digits",
    ),
    "users-in-another-script": (
        ["run", MATRIX, "--users", "\u0661\u0660"],
        "Invalid value for '--users': '\u0661\u0660' is not a number in decimal digits",
    ),
    "results-without-a-name": (
        ["run", MATRIX, "--results", ""],
        "Invalid value for '--results': it is empty, and would mean this folder; write '.' for",
    ),
    "results-on-two-lines": (
        ["up", "--results", "a\nb"],
        "Invalid value for '--results': 'a\\nb' holds a control or invisible character, or is",
    ),
    "results-that-are-no-text": (
        ["up", "--results", "a\udcff"],
        "Invalid value for '--results': 'a\\udcff' holds a control or invisible character, or is",
    ),
    "results-with-a-name-that-is-too-long": (
        ["run", MATRIX, "--results", "a" * 5000],
        f"Invalid value for '--results': '{'a' * 40}...' is longer than a file system takes - see",
    ),
    "a-spec-with-a-name-that-is-too-long": (
        ["run", "a/" * 2500 + "b"],
        f"Invalid value for '[SPEC]...': '{'a/' * 20}...' is longer than a file system takes - see",
    ),
    "a-spec-without-a-name": (["run", ""], "Invalid value for '[SPEC]...': it is empty, and would"),
    "two-forms": (["report", "x", "--html", "--markdown"], "--html and --markdown exclude each"),
    "a-page-as-json": (["report", "x", "--html", "--json"], "--html and --json exclude each other"),
    "a-document-as-json": (
        ["report", "x", "--json", "--markdown"],
        "--markdown and --json excl",
    ),
    "a-cell-as-a-page": (
        ["report", "x", "--cell", "y", "--html"],
        "--cell and --html exclude",
    ),
    "a-cell-as-markdown": (
        ["report", "x", "--markdown", "--cell", "y"],
        "--cell and --markdown exclude each other - leave one out",
    ),
    "draws-of-no-storage": (
        ["calibrate", "--target", "cloudrun", "--draws", "60"],
        "--target cloudrun and --draws exclude each other - leave one out",
    ),
    "a-speed-beyond-the-most": (
        ["run", BASIC, "--set", "speed=8", "--most-speed", "4"],
        "speed 8 is asked for, and --most-speed 4 - leave one of them out",
    ),
    "speed-that-is-no-word-of-ours": (
        ["run", MATRIX, "--speed", "fast"],
        "Invalid value for '--speed': 'fast' is no number in decimal digits, nor auto",
    ),
    "a-setting-that-is-no-speed": (
        ["run", MATRIX, "--set", "speed=fast"],
        "--set speed=fast: 'speed': 'fast' is no speed - write auto, or a number from 1 to 50",
    ),
    "a-replica-by-hand-at-a-chosen-speed": (
        ["up", "--set", "speed=auto"],
        "speed auto is chosen for a cell with its load, and `lab up` has none - give a number",
    ),
    "speed-auto-of-a-replica-by-hand": (
        ["up", "--speed", "auto"],
        "Invalid value for '--speed': 'auto' is not a number in decimal digits",
    ),
    "a-limit-that-is-auto": (
        ["run", MATRIX, "--most-speed", "auto"],
        "Invalid value for '--most-speed': 'auto' is not a number in decimal digits",
    ),
    "speed-out-of-bounds": (["run", MATRIX, "--speed", "99"], "Invalid value for '--speed': 99"),
    "unknown-target": (["up", "--target", "lambda"], "Invalid value for '--target': 'lambda'"),
    "speed-on-cloud-run": (
        ["up", "--target", "cloudrun", "--speed", "2"],
        "speed 2 with target cloudrun: no speed shortens the start of an instance - leave speed",
    ),
    "balance-on-cloud-run": (
        ["up", "--target", "cloudrun", "--set", "balance=round_robin"],
        "balance: round_robin with target cloudrun: there is no nginx, and the platform chooses the"
        " instance - leave balance out, or use target vm",
    ),
    "unknown-balance": (
        ["up", "--set", "balance=random"],
        "--set balance=random: 'balance': ",
    ),
    "what-cannot-be-on-cloud-run": (
        ["up", "--target", "cloudrun", "--set", "cloudrun_concurrency=20"],
        "cloudrun_cpus below 1 (0.5) forces cloudrun_concurrency 1, not 20 - change one, or set",
    ),
    "less-memory-than-cloud-run-gives": (
        ["up", "--target", "cloudrun", "--set", "cloudrun_memory=100MiB"],
        "--set cloudrun_memory=100MiB: 'cloudrun_memory': 100MiB is out of bounds - it must be",
    ),
    "more-instances-at-least-than-at-most": (
        ["up", "--target", "cloudrun", "--set", "cloudrun_min_instances=2"],
        "cloudrun_min_instances is 2, above cloudrun_max_instances, 1 - lower one or raise the",
    ),
    "target-of-a-spec-with-a-speed": (
        ["run", MATRIX, "--target", "cloudrun", "--speed", "5"],
        f"{MATRIX}: speed 5 with target cloudrun: no speed shortens the start of an instance",
    ),
    "unknown-preset": (["run", MATRIX, "--preset", "best"], "Invalid value for '--preset': 'best'"),
    "unknown-option": (["run", MATRIX, "--spede", "3"], "No such option '--spede'"),
    "unknown-command": (["kobs"], "No such command 'kobs'. Did you mean 'knobs'?"),
    "missing-argument": (["report"], "Missing argument 'RUN' - see `lab report --help`"),
    "no-latest": (["report", "latest"], "there is no latest run in results - `lab run SPEC`"),
    "no-run": (["judge", "nosuch"], "'nosuch' is neither a run in results nor a folder"),
    "not-a-run": (["judge", "."], ". is not a run folder (it holds no run.json)"),
    "resume-what-is-no-run": (["run", "--resume", "x"], "'x' is neither a run in results nor"),
    "resume-nothing": (["run", "--resume", ""], "'' is neither a run in results nor a folder"),
    "unknown-fault": (["up", "--fault", "gcs-dwon"], "there is no fault 'gcs-dwon'"),
    "strike-without-a-load": (
        ["up", "--fault", "backend-kill"],
        "backend-kill kills backend while a load runs, and `lab up` runs none - name it in a",
    ),
    "fault-and-none": (["up", "--fault", "gcs-down", "--no-faults"], "--fault and --no-faults"),
    "more-retries-than-there-are": (
        ["run", MATRIX, "--retries", "11"],
        "Invalid value for '--retries': 11 is not in the range 0<=x<=10",
    ),
    "fewer-retries-than-none": (
        ["run", MATRIX, "--retries", "-1"],
        "Invalid value for '--retries': '-1' is not a number in decimal digits",
    ),
    "retries-that-are-no-number": (
        ["threshold", MATRIX, "--retries", "x"],
        "Invalid value for '--retries': 'x' is not a number in decimal digits",
    ),
    "only-what-is-not-there": (
        ["run", MATRIX, "--only", "workers=3,*"],
        f"--only 'workers=3,*' takes no cell of {MATRIX} - near it: 'workers=",
    ),
    "one-only-of-two-takes-nothing": (
        ["run", MATRIX, BASIC, "--only", "workers=1*", "--only", "nosuch"],
        f"--only 'nosuch' takes no cell of {MATRIX} or {BASIC} - near it: '",
    ),
    "only-nothing": (["run", MATRIX, "--only", ""], "--only '' takes no cell of "),
    "port-out-of-bounds": (["up", "--port", "99999"], "Invalid value for '--port': 99999"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_command_line_that_cannot_be(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = USAGE[case]
    ended = lab(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith(message)


def test_a_prefix_of_several_runs(lab: Command, tmp_path: Path) -> None:
    first, second = sample.create(tmp_path), sample.create(tmp_path)
    ended = lab("report", "2026", "--results", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    expected = f"'2026' means 2 runs: {first.info.name}, {second.info.name} - write more of"
    assert the_line(ended.err).startswith(expected)


def test_a_cell_that_is_not_one(lab: Command, tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    sample.measure(run, run.cells()[0])
    ended = lab("report", "latest", "--cell", "nosuch", "--results", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    name, cell_id = run.info.name, run.cells()[0].id
    assert the_line(ended.err) == (
        f"no finished cell of {name} has 'nosuch' in its id - write a part of one, as of {cell_id}"
    )
    sample.measure(run, run.cells()[1])
    ended = lab("report", "latest", "--cell", "workers", "--results", tmp_path)
    assert the_line(ended.err).startswith(f"'workers' is part of 2 ids of {name} - write more of")


def test_a_resume_with_a_changed_spec(lab: Command, tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    ended = lab("run", command.spec(tmp_path), "--resume", "latest", "--results", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith(f"{run.info.name} was made of other cells: ")


@pytest.mark.parametrize(
    "option", [["--set", "db_cap=3"], ["--speed", "2"], ["--users", "3"], ["--most-speed", "2"]]
)
def test_a_resume_without_the_spec_that_its_settings_are_for(
    lab: Command, tmp_path: Path, option: list[str]
) -> None:
    sample.create(tmp_path)
    ended = lab("run", "--resume", "latest", "--results", tmp_path, *option)
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith("--resume without a spec runs the stored cells as they")


def test_a_resume_of_cells_that_the_run_has_not(lab: Command, tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    ended = lab("run", "--resume", "latest", "--results", tmp_path, "--only", "workers=3*")
    assert (ended.code, ended.out) == (2, "")
    said = the_line(ended.err)
    assert said.startswith(f"--only 'workers=3*' takes no cell of {run.info.name} - near it: 'work")
    assert all(near in run.info.cells for near in said.split("'")[3::2])


def test_a_resume_that_would_store_elsewhere(lab: Command, tmp_path: Path) -> None:
    run = sample.create(tmp_path / "here")
    ended = lab("run", "--resume", run.path, "--results", tmp_path / "there")
    assert (ended.code, ended.out) == (2, "")
    expected = f"{run.path} is continued where it is, and not in {tmp_path}/there - leave"
    assert the_line(ended.err).startswith(expected)


def test_a_resume_with_two_specs(lab: Command, tmp_path: Path) -> None:
    sample.create(tmp_path)
    file = command.spec(tmp_path)
    ended = lab("run", file, file, "--resume", "latest", "--results", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err) == "--resume continues one run, not 2 - give one spec or none"


@pytest.mark.parametrize("arguments", [["status"], ["locust"]])
def test_no_replica_is_up(lab: Command, tmp_path: Path, arguments: list[str]) -> None:
    ended = lab(*arguments, "--results", tmp_path)
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err) == "no replica is up - `lab up` brings one up"


def test_a_port_that_is_taken(lab: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = lab("up", "--port", port, "--results", tmp_path)
    assert (ended.code, ended.out) == (3, "")
    message = f"port {port} on 127.0.0.1 cannot be used (Address already in use) - choose another"
    assert the_line(ended.err).startswith(message)


def test_a_toxiproxy_that_is_missing(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toxiproxy, "TOOLS", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = command.spec(tmp_path)
    for arguments in (["run", file], ["up"], ["calibrate"]):
        ended = lab(*arguments, "--toxiproxy", "real", "--results", tmp_path / "results")
        assert (ended.code, ended.out) == (3, "")
        expected = f"toxiproxy-server is not on PATH nor in {tmp_path} - run `make toxiproxy`"
        assert the_line(ended.err).startswith(expected)
        assert not list(tmp_path.glob("replica-lab-*")), "a replica's folder is left"


def test_a_strike_that_the_stack_cannot_do(lab: Command, tmp_path: Path) -> None:
    file = command.spec(tmp_path, WHOLE + "faults: [gcs-latency, backend-kill]\n")
    results = tmp_path / "results"
    ended = lab("run", file, "--stack", "embedded", "--results", results)
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err) == (
        "backend-kill kills a container, and the embedded stack has none - use --stack compose"
    )
    assert list(results.iterdir()) == []
    assert lab("run", file, "--stack", "embedded", "--dry-run").code == 0


def test_a_file_in_the_way_of_the_results(lab: Command, tmp_path: Path) -> None:
    file = command.spec(tmp_path)
    ended = lab("run", file, "--results", file / "results")
    assert (ended.code, ended.out) == (3, "")
    expected = f"{file}/results: cannot be written (Not a directory) - choose another"
    assert the_line(ended.err).startswith(expected)


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own with these mount options; skips where it may not be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "lab-test", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("small_disk", ["ro"], indirect=True)
def test_a_read_only_results_folder(lab: Command, tmp_path: Path, small_disk: Path) -> None:
    ended = lab("run", command.spec(tmp_path), "--results", small_disk)
    assert (ended.code, ended.out) == (3, "")
    expected = f"{small_disk}: cannot be written (Read-only file system) - choose another"
    assert the_line(ended.err).startswith(expected)


@pytest.mark.parametrize("small_disk", ["size=16k"], indirect=True)
def test_a_full_results_folder(lab: Command, tmp_path: Path, small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(b"0" * 4096)
    ended = lab("run", command.spec(tmp_path), "--results", small_disk)
    assert (ended.code, ended.out) == (3, "")
    expected = f"{small_disk}: cannot be written (No space left on device) - choose another"
    assert the_line(ended.err).startswith(expected)
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


def test_a_results_folder_that_takes_no_more(tmp_path: Path) -> None:
    limited = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "sys.argv = ['lab', 'run', *sys.argv[1:]]\n"
        "runpy.run_module('lab', run_name='__main__')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-B", "-c", limited, str(command.spec(tmp_path)), "--results", tmp_path],
        env=command.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert the_line(ended.stderr).startswith(f"{tmp_path}: cannot be written (File too large)")
    assert [file.name for file in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    older = (
        "import runpy, sys\n"
        "sys.version_info = (3, 10, 4)\n"
        "runpy.run_module('lab', run_name='__main__')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", older],
        env=command.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert the_line(ended.stderr) == "Python 3.10 is too old - use Python 3.11 or later"


def test_the_program_itself_ends_with_the_message_and_its_code(tmp_path: Path) -> None:
    ended = command.lab("run", "nosuch.yaml", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert the_line(ended.stderr) == "nosuch.yaml: no such file - check the path"


def test_debug_shows_the_traceback_before_the_line(lab: Command) -> None:
    ended = lab("--debug", "run", "nosuch.yaml")
    assert ended.code == 2
    assert ended.err.startswith("Traceback (most recent call last):\n")
    assert ended.err.endswith("\nlab: nosuch.yaml: no such file - check the path\n")


def test_a_defect_of_the_lab_is_one_line_that_says_how_to_see_more(
    lab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_results: Path) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("lab.store.runs", broken)
    ended = lab("runs")
    assert (ended.code, ended.out) == (3, "")
    expected = "unexpected RuntimeError: two lines; `lab --debug …` shows the traceback"
    assert the_line(ended.err) == expected
    assert "in broken" in lab("--debug", "runs").err


def test_an_error_of_the_system_names_what_it_is_about(
    lab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_results: Path) -> None:
        raise OSError(28, "No space left on device", "/replica")

    monkeypatch.setattr("lab.store.runs", full)
    ended = lab("runs")
    assert ended.code == 3
    assert the_line(ended.err).startswith(
        "/replica: No space left on device - free some space on its disk; "
    )


def test_what_went_wrong_besides_stands_on_the_same_line(
    lab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_results: Path) -> None:
        error = StoreError("results: gone")
        error.add_note("and then\nthis")
        raise error

    monkeypatch.setattr("lab.store.runs", fails)
    assert the_line(lab("runs").err) == "results: gone; and then this"
