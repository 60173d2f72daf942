from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from lab.config.document import read_document
from lab.config.schema import FILE, experiment_schema, text_of
from lab.model.evidence import Cause
from lab.model.knobs import TABLE
from lab.model.metrics import BY_NAME
from lab.paths import ROOT
from tests.unit.config.test_experiment import WHOLE, spec, with_lines

EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


def errors(file: Path) -> list[str]:
    validator = Draft202012Validator(experiment_schema())
    return [error.message for error in validator.iter_errors(read_document(file).value)]


def test_the_schema_is_a_schema_and_its_file_is_fresh() -> None:
    schema = experiment_schema()
    Draft202012Validator.check_schema(schema)
    fresh = text_of(schema) == (ROOT / FILE).read_text(encoding="utf-8")
    assert fresh, "run `python -m lab.config.schema`"


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: str(file.stem))
def test_every_experiment_of_the_project_satisfies_it(file: Path) -> None:
    assert errors(file) == []


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        with_lines(load="{burst: 50, audio: 50 KB - 2 MB}"),
        with_lines(load="{stages: [{users: 5, over: 10 s}]}", criteria="[errors.db_refused == 0]"),
        with_lines(load="{rate: 5/s, max_in_flight: 9, uplink: 1 MB/s, think: 2-5 s}"),
        with_lines(load="{rate: 5/s, max_in_flight: off, uplink: off, backoff: 1 s}"),
        with_lines(target="cloudrun"),
        with_lines(knobs="{speed: auto}"),
        with_lines(knobs="{speed: 7.5}"),
        with_lines(target="", matrix="{target: [vm, cloudrun], workers: [1, 2]}"),
        with_lines(load="{rate: 300/min}", knobs="{gcs_latency: 2-5 s, vm_memory: 256 MiB}"),
    ],
)
def test_a_good_spec_satisfies_it(tmp_path: Path, text: str) -> None:
    assert errors(spec(tmp_path, text)) == []


@pytest.mark.parametrize(
    "lines",
    [
        {"experimnt": "a"},
        {"experiment": "My Exp"},
        {"load": ""},
        {"load": "{users: 5, windw: 5 s}"},
        {"load": "{users: 5, window: 5}"},
        {"load": "{users: 5, uplink: 5}"},
        {"load": "{users: 5, max_in_flight: 5}"},
        {"load": "{rate: 5/s, max_in_flight: 0}"},
        {"load": "{users: 5, think: 2-5}"},
        {"load": "{users: 5, rate: 5/s}"},
        {"target": "cloud-run"},
        {"matrix": "{target: [vm, lambda]}"},
        {"matrix": "{target: {a: {workers: 1}}}"},
        {"knobs": "{pool_sze: 5}"},
        {"knobs": "{workers: 99}"},
        {"knobs": "{speed: fast}"},
        {"knobs": "{speed: 51}"},
        {"knobs": "{upload_rate_limit: on}"},
        {"knobs": "{gcs_latency: 5}"},
        {"matrix": "{}"},
        {"matrix": "{workers: []}"},
        {"matrix": "{workers: [1, 99]}"},
        {"matrix": "{wrkers: [1]}"},
        {"matrix": "{pool: {a: {pool_sze: 5}}}"},
        {"criteria": "[p96 < 5 s]"},
        {"criteria": "[]"},
        {"preset": "recomended"},
    ],
)
def test_a_bad_spec_does_not(tmp_path: Path, lines: dict[str, str]) -> None:
    assert errors(spec(tmp_path, with_lines(**lines))) != []


def test_it_knows_every_knob_and_every_metric() -> None:
    definitions = experiment_schema()["$defs"]
    assert list(definitions["Knobs"]["properties"]) == [row.name for row in TABLE]
    validator = Draft202012Validator(definitions["Criterion"])
    assert all(validator.is_valid(f"{name} < 5") for name in BY_NAME)
    assert all(not validator.is_valid(f"errors{cause} < 5") for cause in Cause)
    assert not any(validator.is_valid(f"status.{code} < 5") for code in ("600", "20", "NNN"))
