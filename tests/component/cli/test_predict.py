"""``lab predict``, in this process: nothing is started, so nothing is faked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli_fixture import Command, the_line

SPEC = """\
experiment: forecast
about: how many users does one worker carry?
knobs: {gcs_call: executor, nginx_body: off}
matrix:
  gcs_threads: [4, 11]
load: {users: 10, ramp: 5 s, warmup: 10 s, window: 60 s, audio: 50 KB}
criteria: [p95 < 10 s, error_rate < 5 %]
"""


@pytest.fixture(autouse=True)
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "forecast.yaml"
    file.write_text(SPEC)
    return file


def test_it_predicts_every_cell(lab: Command) -> None:
    ended = lab("predict", "forecast", "--json")
    assert ended.code == 0
    few, many = json.loads(ended.out)
    assert few["id"] == "gcs_threads=4"
    assert few["figures"]["throughput"] == pytest.approx(4 / 3.5, rel=0.05)
    assert few["limit"] == "own_threads"
    assert few["crossed_first"] == "p95 < 10 s"
    assert few["thresholds"][0]["holds_at"] < many["thresholds"][0]["holds_at"]
    assert "predicting 2 of 2: gcs_threads=11" in ended.err


def test_its_text_says_what_it_is(lab: Command) -> None:
    ended = lab("predict", "forecast", "--only", "gcs_threads=4")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.startswith("By a model, not measured")
    for part in ("own_threads", "holds at", "Where it begins to fail", "By the laws"):
        assert part in ended.out


def test_the_same_seed_says_the_same(lab: Command) -> None:
    first, again = (lab("predict", "forecast", "--json").out for _ in range(2))
    assert first == again


def test_a_setting_and_users_change_it(lab: Command) -> None:
    only = ("--only", "gcs_threads=4", "--json")
    [slow] = json.loads(lab("predict", "forecast", "--set", "gcs_latency=6 s", *only).out)
    [usual] = json.loads(lab("predict", "forecast", "--users", "4", *only).out)
    assert slow["thresholds"][0]["holds_at"] < usual["thresholds"][0]["holds_at"]
    assert usual["users"] == 4
    assert usual["limit"] == "none"


def test_beyond_this_machine_is_calculated(lab: Command) -> None:
    ended = lab(
        *("predict", "forecast", "--only", "gcs_threads=11", "--json"),
        *("--users", "100000", "--instances", "200"),
    )
    assert ended.code == 0
    [found] = json.loads(ended.out)
    assert found["users"] == 100000
    assert found["first_failure"].startswith("database_slots, from the first user on")
    assert found["limit"] == "database_slots"


def test_a_single_user_may_be_too_many(lab: Command) -> None:
    ended = lab("predict", "forecast", "--set", "gcs_latency=12 s", "--only", "gcs_threads=4")
    assert ended.code == 0
    assert "breaks at 1" in " ".join(ended.out.split())


def test_no_threshold_is_looked_for_above_the_most_users(lab: Command) -> None:
    ended = lab("predict", "forecast", "--most-users", "5", "--only", "gcs_threads=11", "--json")
    [found] = json.loads(ended.out)
    assert found["thresholds"][0] == {
        "criterion": "p95 < 10 s",
        "holds_at": 5,
        "breaks_at": None,
    }


BAD = {
    "no spec": ((), "no spec is given - write one, as `lab predict workers-x-pool`"),
    "burst": (
        ("spike.yaml",),
        "spike: a load of kind burst has no number of users to predict for - give it users and a"
        " window",
    ),
    "users of a burst": (
        ("spike.yaml", "--users", "4"),
        "spike: a load of kind burst has no users to set - leave --users out, or give a spec with"
        " users and a window",
    ),
    "no run": (
        ("forecast", "--run", "latest"),
        None,
    ),
    "only nothing": (("forecast", "--only", "gcs_threads=9"), "takes no cell of"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(lab: Command, spec: Path, name: str) -> None:
    burst = "experiment: spike\nload: {burst: 20}\n"
    (spec.parent / "spike.yaml").write_text(burst)
    arguments, message = BAD[name]
    ended = lab("predict", *arguments)
    assert ended.code == 2
    assert ended.out == ""
    line = the_line(ended.err.splitlines(keepends=True)[-1])
    assert message is None or message in line


@pytest.mark.parametrize("users", ["0", "1e3", "-1"])
def test_users_are_a_number_of_one_or_more(lab: Command, users: str) -> None:
    assert lab("predict", "forecast", "--users", users).code == 2
