"""nginx's limits: a preset, and what a knob of its own puts in its place."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from lab.model.knobs import Knobs
from lab.model.replica import nginx_limits

MIB = 1024**2


@pytest.mark.parametrize(
    ("settings", "body", "read_s", "patience_s"),
    [
        ({}, MIB, 60, 60),
        ({"nginx": "recommended"}, 3 * MIB, 30, 30),
        ({"nginx_body": "1234567 B"}, 1_234_567, 60, 60),
        ({"nginx": "recommended", "nginx_body": "off"}, None, 30, 30),
        ({"nginx": "recommended", "nginx_read_timeout": "5 min"}, 3 * MIB, 300, 300),
        ({"nginx": "recommended", "nginx_read_timeout": "off"}, 3 * MIB, inf, 60),
    ],
)
def test_a_knob_of_its_own_goes_before_the_preset(
    settings: dict[str, Any], body: int | None, read_s: float, patience_s: float
) -> None:
    limits = nginx_limits(Knobs().with_settings(settings))
    assert (limits.body, limits.read_s, limits.patience_s) == (body, read_s, patience_s)


def test_what_a_stored_cell_that_knows_presets_alone_says_is_what_it_said() -> None:
    stored = Knobs.model_validate({"nginx": "recommended"})
    assert nginx_limits(stored) == nginx_limits(Knobs(nginx="recommended"))
    assert nginx_limits(stored).body == 3 * MIB
