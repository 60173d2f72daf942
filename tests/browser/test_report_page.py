"""A run's page as a reader has it: pictures with the run's numbers, for every reader and screen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from lab.model.criterion import Criterion
from lab.store import RunFolder
from tests.browser.conftest import page_of
from tests.fakes import pictured_run, sample_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
"""axe-core 4.14.1 (MPL-2.0), of npm's package with integrity sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt
/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==."""

OF_CELL = ("time-spent", "replica", "latencies", "over-time")
WIDTHS = (360, 768, 1400)
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")


@contextmanager
def opened(browser: Browser, path: Path, **options: Any) -> Iterator[Page]:
    """The page in a window of its own, without a network; whatever it complains of fails."""
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []

    def hear(said: ConsoleMessage) -> None:
        if said.type == "error":
            complaints.append(said.text)

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", hear)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert complaints == []
    assert asked == [path.as_uri()]
    context.close()


def open_cells(page: Page, count: int) -> None:
    """Unfold cells as a reader does, and wait until their pictures are whole."""
    for number in range(count):
        page.locator("details.cell > summary").nth(number).click()
    page.wait_for_function(
        "count => document.querySelectorAll('figure.over-time .lane').length >= count", arg=count
    )


def figures(page: Page) -> dict[str, Any]:
    """What the page's pictures are drawn from, as the page itself carries it."""
    stored: dict[str, Any] = json.loads(page.locator("#figures").text_content() or "")
    return stored


def summary_of(run: RunFolder) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    return read


def unpacked(told: dict[str, Any]) -> list[Any]:
    """The values of a series, whichever way it is told."""
    if "values" in told:
        return list(told["values"])
    pairs = zip(told["runs"][::2], told["runs"][1::2], strict=True)
    return [value for value, count in pairs for _ in range(count)]


def check_picture(name: str, data: Any, cell: dict[str, Any]) -> None:
    """The figures of a cell's picture are those that are stored of it."""
    if name == "time-spent":
        assert data == {cell["id"]: cell["time_spent"]}
    elif name == "replica":
        assert data["limit"] == cell["limit"]["resource"]
        assert data["levels"] == {
            one["resource"]: one["level"] for one in cell["limit"]["candidates"]
        }
    elif name == "latencies":
        for key in ("edges", "succeeded", "failed"):
            assert data[key] == cell["latencies"][key]
        assert (data["p50"], data["p95"]) == (cell["metrics"]["p50"], cell["metrics"]["p95"])
    else:
        lines = [line for lane in data["lanes"] for line in lane["lines"]]
        assert {"users", "sent", "answered", "errors", "p95", "threads_busy"} <= {
            line["name"] for line in lines
        }
        for line in lines:
            assert unpacked(line) == cell["course"]["series"][line["name"]], line["name"]
        assert [one["t"] for one in data["crossings"]] == [
            one["t"] for one in cell["course"]["crossings"]
        ]


@pytest.mark.parametrize("scripts", [True, False])
def test_every_picture_is_there_and_its_numbers_are_those_of_the_summary(
    browser: Browser, run: RunFolder, matrix: Path, scripts: bool
) -> None:
    with opened(browser, matrix, java_script_enabled=scripts) as page:
        stored, cells = figures(page), summary_of(run)["cells"]
        seen = {(told["picture"], told["cell"]): told["data"] for told in stored.values()}
        for cell in cells:
            limited = cell["limit"] is not None
            for name in OF_CELL:
                if limited or name != "replica":
                    check_picture(name, seen.pop((name, cell["id"])), cell)
        heat, spent = seen.pop(("heat-map", "")), seen.pop(("time-spent", ""))
        assert seen == {}
        assert spent == {cell["id"]: cell["time_spent"] for cell in cells}
        for told, cell in zip(heat["cells"], cells, strict=True):
            assert (told["id"], told["verdict"]) == (cell["id"], cell["verdict"])
            of = {one["criterion"]: one["value"] for one in cell["findings"]}
            assert told["value"] == of[told["criterion"]]
        for name in stored:
            drawn = page.locator(f"#{name} svg.drawing")
            assert drawn.count() == 1, name
            assert drawn.locator("title").text_content()
            assert drawn.locator("desc").text_content()
        shown = page.locator("main > figure svg.drawing")
        assert shown.count() == 2
        assert all(box["height"] > 50 for one in shown.all() if (box := one.bounding_box()))


def test_the_distance_that_a_cell_shows_is_of_the_criterion_that_is_furthest_on(
    browser: Browser, run: RunFolder, matrix: Path
) -> None:
    with opened(browser, matrix) as page:
        [heat] = [told["data"] for told in figures(page).values() if told["picture"] == "heat-map"]
        for told, cell in zip(heat["cells"], summary_of(run)["cells"], strict=True):
            ratios = {
                one["criterion"]: one["value"] / Criterion.parse(one["criterion"]).bound
                for one in cell["findings"]
            }
            assert told["criterion"] == max(ratios, key=ratios.__getitem__)


def test_a_load_in_stages_is_drawn_against_its_users(
    browser: Browser, staged: RunFolder, stages: Path
) -> None:
    with opened(browser, stages) as page:
        [data] = [one["data"] for one in figures(page).values() if one["picture"] == "by-users"]
        for points, cell in zip(data.values(), summary_of(staged)["cells"], strict=True):
            for point, stage in zip(points, cell["course"]["stages"], strict=True):
                assert (point["users"], point["verdict"]) == (stage["users"], stage["outcome"])
                assert point["p95"] == stage["metrics"]["p95"]
                assert point["throughput"] == stage["metrics"]["throughput"]
        assert page.locator("figure.by-users svg.drawing").is_visible()


def test_without_scripts_drawings_stand_and_with_them_they_can_be_zoomed(
    browser: Browser, matrix: Path
) -> None:
    with opened(browser, matrix, java_script_enabled=False) as page:
        page.locator("details.cell > summary").first.click()
        assert page.locator("figure.over-time svg.drawing").first.is_visible()
        assert page.locator(".lanes").count() == 0
    with opened(browser, matrix) as page:
        open_cells(page, 1)
        assert page.locator("figure.over-time canvas").count() > 5
        assert not page.locator("figure.over-time svg.drawing").first.is_visible()


def wait_for_reading(page: Page, time: str) -> None:
    """Wait until all lanes that had a value at a time tell it, and none tells another."""
    page.wait_for_function(
        """time => {
          const told = [...document.querySelectorAll('.lane-read')].map(one => one.textContent);
          const some = told.filter(text => text);
          return some.length > 5 && some.every(text => text.startsWith(`${time}:`));
        }""",
        arg=time,
    )


def test_one_cursor_goes_through_all_lanes_by_keyboard_and_zoom_is_common(
    browser: Browser, matrix: Path
) -> None:
    with opened(browser, matrix, viewport={"width": 1000, "height": 1400}) as page:
        open_cells(page, 1)
        page.locator(".lanes").focus()
        page.keyboard.press("ArrowRight")
        wait_for_reading(page, "46.5 s")  # one beyond the middle of 90 s
        page.keyboard.press("ArrowLeft")
        wait_for_reading(page, "45.5 s")
        plot = page.locator(".lane .u-over").first
        plot.hover(position={"x": 3, "y": 10})
        wait_for_reading(page, "0.5 s")
        page.locator(".lanes").focus()
        for _ in range(2):
            page.keyboard.press("+")
        plot.hover(position={"x": 4, "y": 10})
        wait_for_reading(page, "34.5 s")  # a quarter of it is left, around the middle
        page.get_by_role("button", name="Show all").click()
        plot.hover(position={"x": 3, "y": 10})
        wait_for_reading(page, "0.5 s")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["matrix", "stages"])
def test_axe_finds_nothing_serious(
    browser: Browser, theme: Theme, name: str, request: pytest.FixtureRequest
) -> None:
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == AXE_SHA256
    path: Path = request.getfixturevalue(name)
    with opened(browser, path, color_scheme=theme, bypass_csp=True) as page:
        open_cells(page, 2)
        page.locator("figure details.data > summary").first.click()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document)")
        serious = [
            (one["id"], node["html"][:200], node.get("failureSummary"))
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        assert serious == []
        assert len(found["passes"]) > 10


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["matrix", "stages"])
def test_no_screen_is_too_narrow(
    browser: Browser, width: int, scripts: bool, name: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    size = {"width": width, "height": 900}
    with opened(browser, path, viewport=size, java_script_enabled=scripts) as page:
        for number in range(2):
            page.locator("details.cell > summary").nth(number).click()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        assert page.locator("figure.heat-map svg.drawing").is_visible()


def test_in_print_everything_is_open_and_drawn(browser: Browser, matrix: Path) -> None:
    with opened(browser, matrix) as page:
        open_cells(page, 1)
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF")
        assert len(printed) > 50_000
        page.emulate_media(media="print")
        assert page.locator("figure.over-time svg.drawing").first.is_visible()
        assert not page.locator(".lanes").first.is_visible()
        assert page.locator("figure.replica svg.drawing").nth(3).is_visible()


HOSTILE = "</script><script>document.title='hit'</script><b onmouseover=\"x\">'&"


def test_text_of_others_is_text_in_every_picture(browser: Browser, tmp_path: Path) -> None:
    of = [
        cell.model_copy(
            update={"id": f"{HOSTILE}{number}", "axes": {HOSTILE: f"{HOSTILE}{number}"}}
        )
        for number, cell in enumerate(sample_run.cells()[:2])
    ]
    run = pictured_run.stored(tmp_path, of)
    with opened(browser, page_of(run)) as page:
        open_cells(page, 1)
        assert page.title() == "workers-x-pool - replica lab"
        assert page.locator("b").count() == 0
        named = {told["cell"] for told in figures(page).values()} - {""}
        assert named == {cell["id"] for cell in summary_of(run)["cells"]}


def test_a_link_to_a_cell_opens_it(browser: Browser, matrix: Path) -> None:
    with opened(browser, matrix) as page:
        page.locator("table.matrix a").nth(3).click()
        page.wait_for_function("document.querySelectorAll('details.cell')[3].open")
        assert page.locator("figure.replica svg.drawing").nth(3).is_visible()
