"""The dashboard for the OpenMetrics export, held against the metric table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lab.paths import ROOT
from lab.report.exports.formats.openmetrics import PREFIX, names

DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "replica-lab.json").read_text("utf-8"))
LABELS = {"experiment", "run", "cell", "journey", "cause", "code"}
SELECTED = re.compile(r"\{(.*?)\}")
COLUMNS = 24


def queries() -> Iterator[str]:
    """Every expression of a panel, and of a variable."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


def metrics_of(query: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}\w+", query))


def test_every_query_asks_for_what_an_export_has() -> None:
    asked = [metrics_of(query) for query in queries()]
    assert all(asked)
    assert set().union(*asked) <= names()
    assert len(set().union(*asked)) > 20


def test_a_name_that_no_export_has_would_be_noticed() -> None:
    assert not metrics_of("rate(replica_lab_p95_ms[5m])") <= names()


def test_every_query_selects_by_labels_that_there_are() -> None:
    for query in queries():
        for selection in SELECTED.findall(query):
            assert set(re.findall(r"(\w+)=~?\"", selection)) <= LABELS, query


def test_every_panel_has_a_place_and_an_id_of_its_own() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_it_names_no_server_of_its_own() -> None:
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert uids == {"${datasource}"}
    assert "http" not in json.dumps(DASHBOARD)
