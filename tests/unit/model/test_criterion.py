from __future__ import annotations

import re

import pytest

from lab.model.criterion import Criterion
from lab.model.metrics import BY_NAME, STATUS, TABLE, status_of

EXAMPLE = {
    "count": "20",
    "cores": "1.5",
    "seconds": "250 ms",
    "share": "5 %",
    "per second": "0.5/s",
    "bytes": "256 MiB",
    "bytes per second": "200 KB",
}


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: str(metric.name))
def test_every_metric_takes_a_bound_in_its_unit_and_writes_it_again(metric: object) -> None:
    name = next(name for name, row in BY_NAME.items() if row is metric)
    text = f"{name} <= {EXAMPLE[BY_NAME[name].unit]}"
    criterion = Criterion.parse(text)
    assert str(criterion) == text
    assert Criterion.model_validate_json(criterion.model_dump_json()) == criterion


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("p95 < 10 s", 9.999, True),
        ("p95 < 10 s", 10.0, False),
        ("p95<10s", 9.0, True),
        ("error_rate <= 5 %", 0.05, True),
        ("throughput >= 5/s", 5.0, True),
        ("throughput > 300/min", 5.0, False),
        ("oom_kills == 0", 0, True),
        ("errors.db_refused == 0", 1, False),
        ("rss_backend < 256 MiB", 256 * 1024**2 - 1, True),
    ],
)
def test_a_criterion_compares_in_the_metrics_unit(text: str, value: float, met: bool) -> None:
    assert Criterion.parse(text).satisfied_by(value) is met


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p95", "'p95' is not a criterion; write it like 'p95 < 10 s'"),
        ("p95 < ", "'p95 < ' is not a criterion"),
        ("p95 =< 10 s", "'p95 =< 10 s' is not a criterion"),
        ("p95 != 10 s", "is not a criterion"),
        ("", "'' is not a criterion"),
        (5, "'5' is not a criterion"),
        (None, "'None' is not a criterion"),
        ("p96 < 10 s", "'p96' is not a metric; did you mean 'p99'?"),
        ("errors.pool_timout == 0", "is not a metric; did you mean 'errors.pool_timeout'?"),
        ("zzzz < 1", "'zzzz' is not a metric; `lab metrics` lists them"),
        ("p95 < 10", "'10' is not a duration; write it like '10 s'"),
        ("p95 < 10 %", "'10 %' is not a duration"),
        ("error_rate < 0.05", "'0.05' is not a share; write it like '5 %'"),
        ("throughput > 5", "'5' is not a rate; write it like '5/s'"),
        ("pg_connections <= 20 s", "'20 s' is not a number"),
        ("rss_backend < 256", "'256' is not a size; write it like '200 KB'"),
    ],
)
def test_a_bad_criterion_says_what_is_wrong(text: object, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is what is tested
        Criterion.parse(text)
    assert message in str(error.value)


def test_a_family_has_the_names_of_its_form_and_no_others() -> None:
    [family] = [row for row in TABLE if row.members]
    drawn = [f"{STATUS}{code}" for code in (*range(1300), "NNN", "4xx", "20", "", "0200", " 200")]
    fitting = [name for name in drawn if re.fullmatch(family.form, name)]
    assert fitting == list(family.members)
    assert [status_of(name) for name in fitting] == list(range(100, 600))
    assert status_of("errors.db_refused") is None


@pytest.mark.parametrize("name", ["status.600", "status.099", "status.4xx", "status.", "status"])
def test_what_is_no_status_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"^'{re.escape(name)}' is not a metric; "):
        Criterion.parse(f"{name} == 0")
