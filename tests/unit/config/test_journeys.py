"""What a spec says of journeys: its mix, its health probes, and criteria on either."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import read_experiment
from lab.config.schema import experiment_schema
from lab.errors import SpecError
from lab.model.experiment import Experiment
from lab.model.journeys import Journey
from lab.model.load import ClosedLoad
from tests.unit.config.test_experiment import FAULTS, spec

MIX = "{upload: 80 %, progress: 20 %}"


def read(folder: Path, load: str, *criteria: str, matrix: str = "") -> Experiment:
    lines = ["experiment: a", f"load: {load}"]
    lines += [f"criteria: [{', '.join(criteria)}]"] if criteria else []
    lines += [f"matrix: {matrix}"] if matrix else []
    return read_experiment(spec(folder, "\n".join(lines) + "\n"), FAULTS)


def test_a_mix_and_its_criteria_are_read_and_written_as_they_are(tmp_path: Path) -> None:
    load = f"{{users: 5, mix: {MIX}, health_every: 10 s}}"
    found = read(
        tmp_path, load, "p95(progress) < 1 s", "error_rate( health )<1 %", "p95(upload)<9 s"
    )
    written = [str(criterion) for criterion in found.criteria]
    assert written == ["p95(progress) < 1 s", "error_rate(health) < 1 %", "p95 < 9 s"]
    assert found.load.shares == {Journey.UPLOAD: 0.8, Journey.PROGRESS: 0.2}
    assert found.load.journeys == (Journey.UPLOAD, Journey.PROGRESS, Journey.HEALTH)
    stored = found.model_dump_json(by_alias=True)
    assert Experiment.model_validate_json(stored) == found
    assert '"mix":{"upload":"80 %","progress":"20 %"}' in stored


def test_without_a_mix_a_load_is_written_as_an_earlier_lab_wrote_it() -> None:
    assert ClosedLoad(users=5).model_dump_json() == (
        '{"think":"0 s","backoff":"1 s","timeout":"2 min","audio":"50 KB - 2 MB","uplink":"off",'
        '"users":5,"ramp":"5 s","warmup":"10 s","window":"1 min"}'
    )


def test_the_order_in_which_a_mix_is_written_is_of_no_account(tmp_path: Path) -> None:
    loads = [
        read(tmp_path, f"{{burst: 5, mix: {mix}}}").load
        for mix in ("{upload: 70 %, convert: 30 %}", "{convert: 30 %, upload: 70 %}")
    ]
    assert loads[0] == loads[1]


@pytest.mark.parametrize(
    ("keys", "criteria", "message"),
    [
        (
            "mix: {upload: 80 %, progress: 10 %}",
            (),
            ":2:23: 'mix': its shares add up to 90 % - add 10 %",
        ),
        (
            "mix: {upload: 80 %, progress: 30 %}",
            (),
            "'mix': its shares add up to 110 % - take 10 % off",
        ),
        (
            "mix: {uplod: 100 %}",
            (),
            "'mix': 'uplod' is not a journey - did you mean 'upload'?",
        ),
        (
            "mix: {sing: 100 %}",
            (),
            "'mix': 'sing' is not a journey - known are: upload, assess, convert, progress",
        ),
        (
            "mix: {upload: 90 %, health: 10 %}",
            (),
            "'mix': 'health' is not asked for by users - set health_every, as to 10 s",
        ),
        (
            "mix: {upload: 80, progress: 20}",
            (),
            "'mix': upload: 80 has no unit - write the share like '5 %'",
        ),
        (
            "mix: {upload: 100 %, assess: 0 %}",
            (),
            "'mix': assess has a share of 0 % - leave it out",
        ),
        (
            "mix: upload",
            (),
            "'mix': 'upload' is not a mix - write it like '{upload: 80 %, progress",
        ),
        (
            "mix: {}",
            (),
            "'mix': '{}' is not a mix - write it like '{upload: 80 %, progress: 20 %}'",
        ),
        ("health_every: 10", (), "'health_every': 10 has no unit - write the duration like '10 s'"),
        (
            "health_every: 1 ms",
            (),
            ":2:32: health every 1 ms is a load of its own - ask for 100 ms or more",
        ),
        (
            "health_every: 99 ms, health_timeout: 5 s",
            (),
            "health every 99 ms is a load of its own - ask for 100 ms or more",
        ),
        ("health_every: 0 s", (), "'health_every': 0 s is out of bounds - it must be > 0"),
        ("health_timeout: 2 s", (), "nobody asks for health - set health_every, as to 10 s"),
        ("helth_every: 2 s", (), "is not a key of a load of kind closed - did you mean 'health_ev"),
        (
            f"mix: {MIX}",
            ("p95(progres) < 1 s",),
            ":3:12: entry 1 of 'criteria': 'progres' is not a journey - did you mean 'progress'?",
        ),
        (
            f"mix: {MIX}",
            ("capacity(sing) > 1/s",),
            "'sing' is not a journey - known are: upload, assess, convert",
        ),
        (
            f"mix: {MIX}",
            ("capacity(healt) > 1/s",),
            "'healt' is not a journey - known are: upload, assess, convert",
        ),
        (
            f"mix: {MIX}",
            ("pg_connections(progress) < 20",),
            "pg_connections is of no single journey - write pg_connections alone",
        ),
        (
            f"mix: {MIX}",
            ("capacity(progress) > 1/s",),
            "progress has no capacity - it is of upload, assess, convert",
        ),
        (
            f"mix: {MIX}",
            ("p95 < 9 s", "p95(assess) < 5 s"),
            ":3:23: criterion 'p95(assess) < 5 s': the load has no assessments - give assess a"
            " share of its mix, or write p95",
        ),
        (
            f"mix: {MIX}",
            ("error_rate(health) < 1 %",),
            "criterion 'error_rate(health) < 1 %': the load has no health probes - give it a"
            " health_every, as 10 s, or leave the criterion out",
        ),
        (
            "mix: {progress: 100 %}",
            ("p95 < 9 s",),
            ":3:12: criterion 'p95 < 9 s': the load has no uploads - give upload a share of"
            " its mix, or write p95(progress)",
        ),
        (
            "mix: {progress: 100 %}",
            ("gcs_latency < 9 s",),
            "criterion 'gcs_latency < 9 s': the load has no uploads - give upload a share of"
            " its mix, or leave it out",
        ),
        (
            "mix: {progress: 100 %}",
            (),
            ":2:7: criterion 'p95 < 10 s': the load has no uploads - give upload a share",
        ),
        (
            f"mix: {MIX}",
            ("p95 < 9 s", "p95(upload) < 9 s"),
            "criterion 'p95 < 9 s' stands here twice - remove one",
        ),
    ],
)
def test_a_bad_mix_or_criterion_says_where_what_and_how_to_mend_it(
    tmp_path: Path, keys: str, criteria: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, f"{{users: 5, {keys}}}", *criteria)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "criterion", ["pg_connections < 20", "lateness < 1 s", "p95(progress) < 1 s"]
)
def test_what_is_of_no_upload_can_be_asked_without_any(tmp_path: Path, criterion: str) -> None:
    assert read(tmp_path, "{users: 5, mix: {progress: 100 %}}", criterion).criteria


def test_every_load_of_an_axis_has_to_have_what_is_asked_for(tmp_path: Path) -> None:
    axis = f"{{load: {{without: {{users: 5}}, mixed: {{mix: {MIX}}}}}}}"
    with pytest.raises(SpecError) as error:
        read(tmp_path, "{users: 6}", "p95(progress) < 1 s", matrix=axis)
    assert "the load has no progress requests - give progress a share" in str(error.value)


def test_a_bad_mix_of_an_axis_is_refused_as_one_of_the_load_is(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, "{users: 6}", matrix="{load: {a: {mix: {uplod: 100 %}}, b: {users: 7}}}")
    message = "'mix': 'uplod' is not a journey - did you mean 'upload'?"
    assert str(error.value).endswith(message)


def test_editors_complete_a_mix_and_the_journey_of_a_criterion() -> None:
    definitions = experiment_schema()["$defs"]
    assert set(definitions["Mix"]["properties"]) == {"upload", "assess", "convert", "progress"}
    assert "health" in definitions["Criterion"]["pattern"]
    for form in ("ClosedLoad", "StagesLoad", "BurstLoad", "OpenLoad"):
        assert {"mix", "health_every", "health_timeout"} <= definitions[form]["properties"].keys()
