"""Requests that no user sends: what each server answers, and that it goes on serving the others.

The table is `validation.hostile`; `python -m validation.requests` asks the gateway too, and says
what healthy users feel of it.
"""

from __future__ import annotations

import pytest

from tests.live import Live
from validation.hostile import rows
from validation.requests import ALL, KNOBS, Asked, wrong

SLOW = ("says nothing", "half a body")
"""The rows whose server waits that are waited for here, one of each kind."""


@pytest.mark.replica
@pytest.mark.parametrize("server", ["nginx", "uvicorn"])
def test_each_hostile_request_is_answered_as_is_right_and_leaves_nothing(
    live: Live, server: str
) -> None:
    replica = live({**ALL, **KNOBS["vm"]})
    begun = {name: log.stat().st_size for name, log in replica.logs.items()}
    asked = Asked(live.stack, replica, "vm")
    table = [each for each in rows() if not each.slow or each.name in SLOW]
    assert len(table) > 300
    assert list(wrong(asked.servers()[server], server, table)) == []
    assert list(asked.left_wrong(begun)) == []
