"""``lab up``, ``status``, ``down`` and ``locust``: a replica kept up by hand."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import requests

from lab.stack import ports
from tests import command
from tests.cli_fixture import the_line
from tests.live import wait_until

pytestmark = pytest.mark.replica

SLOW_PROXY = "http://127.0.0.1:1"
"""An HTTP proxy that is not there: whoever asks it fails."""


class Up:
    """A replica that is up, from a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = ports.free(1)[0]
        arguments = ("--port", str(self.port), "--speed", "20", "--toxiproxy", "embedded")
        self.ended = self.lab("up", *arguments, "--set", "gcs_threads=9")
        assert self.ended.returncode == 0, self.ended.stderr
        self.left = command.Leftovers(folder / "results")

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {"HTTP_PROXY": SLOW_PROXY, "http_proxy": SLOW_PROXY, "NO_PROXY": None}
        return command.lab(*arguments, cwd=self.folder, env=env)

    def record(self) -> dict[str, Any]:
        """What ``status`` tells."""
        [record] = json.loads(self.lab("status", "--json").stdout)
        return dict(record)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    kept = Up(tmp_path_factory.mktemp("up"))
    yield kept
    ended = kept.lab("down")
    assert ended.returncode == 0, ended.stderr
    assert "ended 1 replica of results" in ended.stderr
    kept.left.assert_nothing_left()


def test_up_prints_where_everything_is_and_status_prints_it_again(up: Up) -> None:
    assert up.ended.stderr.startswith("stack: embedded (")
    lines = dict(line.split(maxsplit=1) for line in up.ended.stdout.splitlines()[:9])
    assert lines["url"] == f"http://127.0.0.1:{up.port}"
    assert lines["faults"] == "gcs-latency, db-distance"
    assert Path(lines["logs"]).is_dir()
    shown = up.lab("status")
    assert shown.returncode == 0
    assert shown.stdout == up.ended.stdout + "\nall parts are running\n"


def test_up_says_which_settings_have_no_effect(up: Up) -> None:
    said = "gcs_threads has no effect: its threads are those of gcs_call: executor"
    assert up.ended.stderr.splitlines()[1] == said


def test_every_address_that_up_tells_answers(up: Up) -> None:
    record = up.record()
    assert record["down"] == []
    assert requests.get(record["health"], timeout=10).status_code == 200
    assert requests.get(record["storage"] + "/storage/v1/b", timeout=10).status_code == 200
    proxies = requests.get(record["toxiproxy"] + "/proxies", timeout=10).json()
    assert {len(proxies[name]["toxics"]) for name in ("gcs", "db")} == {1}
    with psycopg2.connect(record["database"]) as database, database.cursor() as cursor:
        cursor.execute("SELECT current_setting('is_superuser')")
        assert cursor.fetchone() == ("on",)
    database.close()
    assert record["knobs"]["speed"] == 20


def test_the_curl_line_that_up_prints_uploads_a_file(up: Up, tmp_path: Path) -> None:
    (tmp_path / "recording.wav").write_bytes(b"RIFF" + b"\0" * 1000)
    line = shlex.split(up.ended.stdout.splitlines()[-1])
    assert line[0] == "curl"
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    done = subprocess.run(
        [*line, "--silent"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["recording"]


def test_an_upload_with_the_token_that_up_tells(up: Up) -> None:
    record = up.record()
    answer = requests.post(
        record["upload"],
        files={"file": ("recording.wav", b"\0" * 1000, "audio/wav")},
        headers={"Authorization": f"Bearer {record['token']}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text


def test_a_second_replica_of_the_same_results_is_refused(up: Up) -> None:
    ended = up.lab("up")
    assert (ended.returncode, ended.stdout) == (2, "")
    expected = "a replica is up already - `lab down` ends it, `lab status` shows it"
    assert the_line(ended.stderr) == expected


def test_its_port_is_taken_for_another(up: Up, tmp_path: Path) -> None:
    ended = command.lab("up", "--port", str(up.port), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert the_line(ended.stderr).startswith(f"port {up.port} on 127.0.0.1 cannot be used")


def test_down_of_other_results_leaves_it_alone(up: Up, tmp_path: Path) -> None:
    ended = command.lab("down", cwd=tmp_path)
    assert ended.returncode == 0
    assert "ended 0 replicas of results" in ended.stderr
    assert up.record()["down"] == []


def interrupted(process: subprocess.Popen[str]) -> bool:
    """Whether a process ends of Ctrl-C."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=5)
    return process.returncode is not None


def test_locust_serves_its_page_until_it_is_interrupted(up: Up) -> None:
    port = ports.free(1)[0]
    with command.started("locust", "--port", str(port), cwd=up.folder) as process:
        wait_until(lambda: ports.accepts(port) or process.poll() is not None)
        page = requests.get(f"http://127.0.0.1:{port}/", timeout=10)
        # One that comes while Locust still answers a request ends that alone.
        wait_until(lambda: interrupted(process), 60)
    assert page.status_code == 200
    assert "locust" in page.text.lower()
    assert f"http://127.0.0.1:{up.port}" in page.text
    wait_until(lambda: not ports.accepts(port))
    assert up.record()["down"] == []


def test_locust_on_a_port_that_is_taken(up: Up) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = up.lab("locust", "--port", str(taken.getsockname()[1]))
    assert (ended.returncode, ended.stdout) == (3, "")
    assert the_line(ended.stderr).endswith(" - choose another with --port")


def test_a_part_that_is_stopped_or_dead_is_shown(up: Up) -> None:
    pid = up.record()["parts"]["nginx"]
    psutil.Process(pid).suspend()
    stopped = up.lab("status")
    psutil.Process(pid).resume()
    assert (stopped.returncode, stopped.stdout.splitlines()[-1]) == (3, "DOWN: nginx")
    assert up.lab("status").returncode == 0


def test_a_replica_whose_lab_was_killed_at_bringing_it_up_is_told_and_ended(
    tmp_path: Path,
) -> None:
    results = tmp_path / "results"
    with command.started("up", cwd=tmp_path) as process:
        deadline = time.monotonic() + 30
        left = None
        while left is None or not left.processes():
            assert time.monotonic() < deadline
            assert process.poll() is None
            left = _leftovers(results)
        process.kill()
        process.communicate()
    told = command.lab("status", cwd=tmp_path)
    assert (told.returncode, told.stdout) == (3, "")
    assert the_line(told.stderr).endswith("`lab up` was killed at it - `lab down` ends it")
    assert command.lab("up", cwd=tmp_path).returncode == 2
    assert command.lab("down", cwd=tmp_path).returncode == 0
    left.assert_nothing_left()


TRIALS = 3


def _leftovers(results: Path) -> command.Leftovers | None:
    try:
        return command.Leftovers(results)
    except ValueError:  # there is none yet
        return None


def test_an_interrupted_up_leaves_nothing(tmp_path: Path) -> None:
    for attempt in range(TRIALS):  # on a busy machine it may be up before it is interrupted
        results = tmp_path / str(attempt) / "results"
        results.parent.mkdir()
        with command.started("up", cwd=results.parent) as process:
            wait_until(partial(_leftovers, results))
            left = command.Leftovers(results)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=15)
        if process.returncode != 0:
            break
        assert command.lab("down", cwd=results.parent).returncode == 0
    assert (process.returncode, out) == (130, ""), err
    stack, told = err.splitlines(keepends=True)
    assert stack.startswith("stack: embedded")
    assert the_line(told) == "interrupted"
    left.assert_nothing_left()
