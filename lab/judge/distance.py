"""What a cell's faults should do to the way to storage and to the database."""

from __future__ import annotations

from lab.model.experiment import Cell
from lab.model.fault import Latency, ProxyName
from lab.model.units import Span

DB_TRIPS = {"auth": 2, "release": 1, "write": 4}
"""Round trips by stage: BEGIN, SELECT; ROLLBACK; BEGIN, INSERT, UPDATE, COMMIT."""


def db_trips(cell: Cell) -> dict[str, int]:
    """Round trips by stage, as this cell makes them.

    A session that was held is in its transaction already and sends no BEGIN to write.
    """
    held = cell.knobs.db_session == "hold"
    return DB_TRIPS | ({"write": DB_TRIPS["write"] - 1} if held else {})


def only_delay(cell: Cell, proxy: ProxyName) -> Span | None:
    """The delay of a proxy's answers, where that is all that the cell's faults do to them.

    A strike is more: a pause lengthens every stage that it falls into, and after a restart
    connections are made anew.
    """
    if cell.process_faults:
        return None
    faults = [fault for fault in cell.faults if fault.proxy == proxy]
    if len(faults) != 1 or faults[0].down or len(faults[0].toxics) != 1:
        return None
    toxic = faults[0].toxics[0]
    if not isinstance(toxic, Latency) or toxic.stream != "downstream" or toxic.toxicity != 1:
        return None
    return toxic.span(cell.knobs)
