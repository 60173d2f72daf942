"""Cells whose late uploads wait for something known, drawn by a seed over knobs and loads.

A cell is drawn at random, simulated, and given a bound for p95 that it clearly misses. It is
kept where the simulation's answer is certain, where it is the resource whose turn it is (so that
all occur), and where a machine of two cores measures it truly, at the lowest speed at which the
load takes less than `MAX_WALL_S`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from math import ceil, isfinite
from typing import Any

from lab.model.experiment import Cell, Experiment
from lab.model.knobs import Knobs
from lab.model.load import AnyLoad, BurstLoad
from validation.expected_waits import SEEDS, Expected, at_a_glance, expected

MARGIN = 0.15
"""A cell is kept only where the largest share is so much above the next."""
MAX_WALL_S = 17.0
MAX_RATE = 15.0
"""Uploads a wall-clock second: with the generator and all parts, half of two cores."""
MAX_BURST = 75.0
"""Uploads of a burst times the speed: they are parsed at once, and no speed divides CPU."""
MIN_MEDIAN_S, MIN_TRIP_S = 0.25, 0.002
"""Seconds of wall-clock time that an upload, and a round trip to the database, take at least.
What the lab adds to them, about 12 ms and 0.3 ms, would else show."""
MAX_SPEED = 6
MIN_UPLOADS, MIN_LATE = 60, 0.25
"""Over all seeds: uploads in the window, and the share of them that is late or cut off."""
OTHER_CAUSES = 0.01
"""The largest share of uploads that may fail with causes that stand for another resource."""
WAITS = ("event_loop", "default_executor", "own_threads", "pool", "anyio_threads")
TURNS = (*WAITS, *WAITS, *WAITS, "storage", "database")
"""Whose turn it is, one after the other."""
MAX_ATTEMPTS = 100
"""Cells drawn for one turn before it goes to the next resource."""


APT: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "event_loop": {"gcs_call": ("blocking", "executor"), "db_call": ("blocking",)},
    "default_executor": {"gcs_call": ("to_thread",), "db_session": ("release", "release", "hold")},
    "own_threads": {"gcs_call": ("executor", "audio_pool"), "db_session": ("release", "hold")},
    "pool": {"gcs_call": ("executor",), "pool_size": (1, 2, 3, 5, 10)},
    "anyio_threads": {
        "gcs_call": ("executor",),
        "db_call": ("threadpool",),
        "db_session": ("release",),
        "db_rtt": ("50 ms", "100 ms"),
        "pool_size": (20, 40),
    },
    "storage": {"gcs_call": ("executor", "to_thread"), "db_session": ("release",)},
    "database": {
        "gcs_call": ("executor", "to_thread"),
        "gcs_latency": ("100 ms - 200 ms",),
        "workers": (2, 3),
        "db_call": ("threadpool",),
        "db_rtt": ("100 ms",),
        "pool_size": (20,),
    },
}
"""Knobs from whose values a cell is drawn when it is a resource's turn."""

FEW = {"storage": (3, 10), "database": (2, 4)}
"""Users, the fewest and the most, where service alone is to make uploads late."""


@dataclass(frozen=True)
class Drawn:
    """A cell, as its spec says it, and what the simulation expects of it."""

    experiment: Experiment
    bound: float
    expected: Expected


def draw(number: int, seed: int) -> list[Drawn]:
    """So many cells; the same seed draws the same."""
    return list(islice(_kept(seed), number))


def _kept(seed: int) -> Iterator[Drawn]:
    numbers = count(1)
    for turn, resource in enumerate(cycle(TURNS)):
        for attempt in range(MAX_ATTEMPTS):
            rng = random.Random(f"{seed}/{turn}/{attempt}")
            drawn = _drawn(rng, resource)
            if drawn:
                name = f"waiting-{next(numbers):02d}"
                yield replace(drawn, experiment=_named(drawn.experiment, name))
                break


def _named(experiment: Experiment, name: str) -> Experiment:
    return experiment.model_copy(update={"experiment": name})


def _drawn(rng: random.Random, resource: str) -> Drawn | None:
    """A cell, if late uploads of it certainly wait for the resource."""
    knobs, load = knobs_at_random(rng, resource), load_at_random(rng, resource)
    glance = at_a_glance(cell_of(_experiment(knobs, load, 10.0)))
    knobs["speed"] = max(1, ceil(glance.length / MAX_WALL_S))
    bound = _round(rng.uniform(0.4, 0.75) * (glance.p95 if isfinite(glance.p95) else 15.0))
    experiment = _experiment(knobs, load, bound)
    cell = cell_of(experiment)
    if not measurable(cell, glance):
        return None
    answer = expected(cell, bound)
    sure = answer.top == resource and answer.margin > MARGIN and not answer.ambiguous
    return Drawn(experiment, bound, answer) if sure and is_clear(answer) else None


def is_clear(answer: Expected) -> bool:
    """Whether enough uploads are late, and hardly any fails for another reason."""
    fits = {"pool_timeout"} if answer.top == "pool" else set()
    others = sum(number for cause, number in answer.causes.items() if cause not in fits)
    return answer.missed >= MIN_LATE * answer.attempts and others <= OTHER_CAUSES * answer.attempts


def measurable(cell: Cell, answer: Expected) -> bool:
    """Whether a machine of two cores can measure it truly, in time and with enough uploads."""
    speed = cell.knobs.speed
    return (
        answer.attempts >= MIN_UPLOADS
        and speed <= MAX_SPEED
        and answer.median >= MIN_MEDIAN_S * speed
        and cell.knobs.db_rtt.low >= MIN_TRIP_S * speed
        and _is_light(cell.load, speed, answer)
    )


def _is_light(load: AnyLoad, speed: float, answer: Expected) -> bool:
    """Whether the parts have CPU to spare."""
    if isinstance(load, BurstLoad):
        return load.burst * speed <= MAX_BURST
    start, end = load.measured
    return answer.attempts / len(SEEDS) / (end - start) * speed <= MAX_RATE


def knobs_at_random(rng: random.Random, resource: str) -> dict[str, Any]:
    """Settings as a spec writes them; a few are apt to bring the resource to its limit."""
    knobs: dict[str, Any] = {
        "speed": 1,
        "workers": rng.choice((1, 1, 2, 3)),
        "gcs_call": rng.choice(("blocking", "to_thread", "executor", "audio_pool")),
        "gcs_latency": rng.choice(
            ("200 ms - 500 ms", "500 ms - 1 s", "1 s - 3 s", "2 s - 5 s", "3 s", "5 s - 8 s")
        ),
        "db_call": rng.choice(("blocking", "threadpool")),
        "db_session": rng.choice(("hold", "release")),
        "db_rtt": rng.choice(("2 ms", "10 ms", "25 ms", "50 ms", "100 ms")),
        "pool_size": rng.randint(1, 20),
        "max_overflow": rng.choice((0, 0, 5, 10)),
        "pool_timeout": rng.choice(("10 s", "30 s", "60 s")),
        "db_cap": 100,
        "nginx": rng.choice(("as-found", "recommended")),
        "global_rate_limit": "off",
    }
    knobs |= {name: rng.choice(values) for name, values in APT.get(resource, {}).items()}
    if knobs["gcs_call"] == "executor":
        knobs["gcs_threads"] = round(2 * 20 ** rng.random())
    if knobs["gcs_call"] == "audio_pool":
        knobs["audio_threads"] = rng.randint(2, 20)
    if knobs["db_call"] == "threadpool":
        knobs["anyio_threads"] = rng.choice((2, 3, 5, 10, 40))
    return knobs


def load_at_random(rng: random.Random, resource: str) -> dict[str, Any]:
    """A closed load, a burst, or stages, as a spec writes it.

    For service alone there are few users, and no burst: that one opens all connections at once.
    """
    form = rng.choice(("users", "stages") if resource in FEW else ("users", "burst", "stages"))
    if form == "burst":
        return {"burst": rng.randint(20, 100), "audio": "50 KB"}
    fewest, most = FEW.get(resource, (5, 60))
    common = {"audio": "50 KB", "backoff": f"{rng.randint(1, 5)} s"}
    if form == "stages":
        few, many = sorted((rng.randint(fewest, most), rng.randint(fewest, most)))
        stages = [_stage(few, rng), _stage(many, rng), _stage(few, rng)]
        return {"stages": stages[: rng.randint(2, 3)], **common}
    return {
        "users": rng.randint(fewest, most),
        "ramp": f"{rng.randint(1, 6)} s",
        "warmup": f"{rng.randint(2, 10)} s",
        "window": f"{rng.randint(40, 50)} s",
        "think": rng.choice(("0 s", "0 s", "1 s", "3 s")),
        **common,
    }


def _stage(users: int, rng: random.Random) -> dict[str, Any]:
    return {"users": users, "over": f"{rng.randint(1, 5)} s", "hold": f"{rng.randint(12, 25)} s"}


def _experiment(knobs: dict[str, Any], load: dict[str, Any], bound: float) -> Experiment:
    return Experiment.model_validate(
        {
            "experiment": "waiting",
            "about": "what do late uploads wait for?",
            "knobs": knobs,
            "load": load,
            "criteria": [f"p95 < {bound:g} s", "error_rate < 5 %"],
        }
    )


def cell_of(experiment: Experiment) -> Cell:
    """The only cell of a drawn experiment; its faults, the two that always are, are left out."""
    return Cell(
        id=experiment.experiment,
        axes={},
        knobs=Knobs.preset(experiment.preset).with_settings(experiment.knobs),
        load=experiment.load,
        faults=(),
        criteria=experiment.criteria,
        seed=experiment.seed,
    )


def _round(seconds: float) -> float:
    """To half seconds; below two seconds, to tenths."""
    return max(0.1, round(seconds, 1) if seconds < 2 else round(2 * seconds) / 2)


def spec_text(experiment: Experiment) -> str:
    """The YAML of a drawn experiment."""
    data = experiment.model_dump(mode="json", by_alias=True)
    asked = {"experiment", "about", "preset", "knobs", "load", "criteria"}
    return "".join(f"{key}: {_flow(data[key])}\n" for key in data if key in asked)


def _flow(value: Any) -> str:
    """A value in YAML's flow style; the texts of a spec need no quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value)


def tops(drawn: Sequence[Drawn]) -> dict[str, int]:
    """How often each resource is expected."""
    names = [each.expected.top for each in drawn]
    return {name: names.count(name) for name in sorted(set(names))}
