"""PgBouncer in a container, before the database of the compose stack's replica."""

from __future__ import annotations

from typing import Any

import pytest

from lab.faults.network import Toxiproxy
from lab.model.replica import services
from lab.stack.compose.stack import ComposeStack
from tests.fakes import make_cell
from tests.live import causes, make_fault, uploads, wait_until

pytestmark = pytest.mark.compose

BASE = {"speed": 20, "global_rate_limit": "off", "db_call": "threadpool"}
ON: dict[str, Any] = {
    "pooler": "transaction",
    "pooler_size": 3,
    "db_cap": 3,
    "db_session": "hold",
    "gcs_call": "executor",
    "gcs_threads": 40,
    "pool_size": 20,
}


@pytest.mark.knob("pooler", "pooler_size")
def test_it_comes_with_its_knob_shares_its_connections_and_goes(contained: ComposeStack) -> None:
    cell = make_cell({**BASE, **ON})
    contained.apply(make_cell({**BASE, **ON, "pooler": "off"}))
    replica = contained.apply(cell)
    assert contained.restarted == ["pgbouncer", "backend"]
    assert replica.pooler
    assert replica.round_trip(0) > 0
    slow = make_fault("gcs", delay="6 s")
    with Toxiproxy(replica.toxiproxy).injected([slow], cell.knobs):
        assert causes(uploads(replica.url, 12)) == {"ok": 12}
    state = replica.pooler()
    assert state.clients_active > 3
    assert 1 <= state.servers_idle <= 3
    assert replica.query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'") == [
        (state.servers_idle,)
    ]
    assert replica.refused() == 0
    assert contained.down_parts() == {}
    wait_until(lambda: set(replica.usage()) == set(services("vm", with_pooler=True)))

    assert contained.apply(cell).pooler
    assert contained.restarted == []
    session = make_cell({**BASE, **ON, "pooler": "session"})
    contained.apply(session)
    assert contained.restarted == ["pgbouncer", "backend"]

    replica = contained.apply(make_cell({**BASE, **ON, "pooler": "off"}))
    assert (contained.restarted, replica.pooler) == (["backend"], None)
    assert "pgbouncer" not in contained.project.containers()
    assert causes(uploads(replica.url, 3)) == {"ok": 3}


def test_one_that_is_killed_is_down_and_comes_back(contained: ComposeStack) -> None:
    contained.apply(make_cell({**BASE, **ON}))
    contained.inject_fault("pgbouncer", "kill")
    wait_until(lambda: "pgbouncer" in contained.down_parts())
    contained.recover("pgbouncer", "kill")
    assert contained.down_parts() == {}
    replica = contained.apply(make_cell({**BASE, **ON}))
    assert contained.restarted == ["pgbouncer", "backend"]
    assert causes(uploads(replica.url, 3)) == {"ok": 3}
    contained.apply(make_cell({**BASE, **ON, "pooler": "off"}))
