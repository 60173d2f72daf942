"""Facts of a replica that several rooms share."""

from __future__ import annotations

from lab.model.knobs import Knobs
from lab.model.physics import db_trips


def test_a_session_that_is_held_makes_two_round_trips_less() -> None:
    released = db_trips(Knobs(db_session="release"))
    held = db_trips(Knobs(db_session="hold"))
    assert (released, held) == ({"auth": 2, "release": 1, "write": 4}, {"auth": 2, "write": 3})
