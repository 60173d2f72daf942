"""Drawings as SVG: shapes with escaped text, whose colours the page's style sheet holds.

A drawing names classes and no colours, so that it is right in a dark page, a light one and in
print; what tells two things apart is never its colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import ceil, floor, log10

from markupsafe import Markup, escape

from lab.model.text import clean_line

Number = float | int

CHARACTER = 6.2
"""Width of a character at the drawings' usual size, in the units of a drawing: a little more than
the mean of the fonts that pages use."""


MIN_WIDTH = 640
"""Pixels below which a drawing is not made smaller: nobody could read it. It scrolls instead."""


def number(value: Number) -> str:
    """A coordinate, to a tenth."""
    return f"{round(value, 1):g}"


def element(tag: str, text: str = "", **attributes: Number | str) -> Markup:
    """A shape; of attributes' names an underscore at the end is left out, others are hyphens."""
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
        if value != ""
    )
    end = f">{escape(clean_line(text))}</{tag}>" if text else "/>"
    return Markup(f"<{tag}{told}{end}")  # noqa: S704 - every part is escaped


def _attribute(value: Number | str) -> str:
    return str(escape(clean_line(value))) if isinstance(value, str) else number(value)


class Canvas:
    """Shapes gathered by their class, so that a page with hundreds of drawings stays small.

    All lines and boxes of a class and a layer are one path, and all texts of a class are a group. A
    higher layer is above a lower one; in the same one a class that was used first lies below.
    """

    def __init__(self) -> None:
        self._paths: dict[tuple[int, str], list[str]] = {}
        self._others: list[Markup] = []
        self._texts: dict[tuple[str, str], list[Markup]] = {}

    def path(self, d: str, class_: str, layer: int = 0) -> None:
        """A path of one's own."""
        self._paths.setdefault((layer, class_), []).append(d)

    def line(self, x1: Number, y1: Number, x2: Number, y2: Number, class_: str) -> None:
        """A straight line, level or upright or neither."""
        by_x, by_y = x2 - x1, y2 - y1
        way = f"l{number(by_x)} {number(by_y)}"
        way = f"v{number(by_y)}" if not by_x else f"h{number(by_x)}" if not by_y else way
        self.path(f"M{number(x1)} {number(y1)}{way}", class_)

    def box(
        self, x: Number, y: Number, wide: Number, high: Number, class_: str, layer: int = 0
    ) -> None:
        """A rectangle."""
        across = number(wide)
        way = f"M{number(x)} {number(y)}h{across}v{number(high)}h-{across}z"
        self.path(way, class_, layer)

    def add(self, shape: Markup) -> None:
        """Something that is no path of a class: it lies above all paths that are."""
        self._others.append(shape)

    def text(self, x: Number, y: Number, text: str, class_: str = "", anchor: str = "") -> None:
        """Text that begins at a point, or has its ``middle`` or ``end`` there."""
        self._texts.setdefault((class_, anchor), []).append(element("text", text, x=x, y=y))

    def shapes(self) -> Iterator[Markup]:
        """All of it, the text above everything else."""
        layers = sorted(self._paths.items(), key=lambda item: item[0][0])
        for (_, class_), ways in layers:
            yield element("path", d="".join(ways), class_=class_)
        yield from self._others
        for (class_, anchor), texts in self._texts.items():
            yield group(texts, class_=class_, text_anchor=anchor)


def group(shapes: Iterable[Markup], **attributes: str) -> Markup:
    """Shapes that share attributes."""
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value
    )
    return Markup(f"<g{told}>{Markup('').join(shapes)}</g>")  # noqa: S704 - every part is escaped


def fitted(text: str, width: Number) -> str:
    """The text, or as much of its beginning as fits, with dots after it."""
    most = max(1, int(width / CHARACTER))
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def ticks(highest: float, most: int = 6) -> list[float]:
    """Round values from 0 to the highest: steps of 1, 2 or 5 of a power of ten."""
    if highest <= 0:
        return [0.0]
    least = highest / most
    power = 10.0 ** floor(log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999999)
    return [float(f"{index * step:.6g}") for index in range(floor(highest / step + 1e-9) + 1)]


def rounded_up(highest: float, most: int = 6) -> float:
    """The end of a scale on which a value fits: the first tick that is not below it."""
    if highest <= 0:
        return 1.0
    marks = ticks(highest, most)
    step = marks[1] if len(marks) > 1 else highest
    return float(f"{ceil(highest / step - 1e-9) * step:.6g}")


Scale = Callable[[float], float]


def linear(end: float, begin_at: float, end_at: float) -> Scale:
    """Where a value of a scale from 0 to ``end`` is; one beyond is at the end."""

    def at(value: float) -> float:
        share = min(1.0, max(0.0, value / end)) if end else 0.0
        return begin_at + (end_at - begin_at) * share

    return at


def logarithmic(first: float, last: float, begin_at: float, end_at: float) -> Scale:
    """Where a value of a logarithmic scale is; one outside is at its end."""

    def at(value: float) -> float:
        if value <= first:
            return begin_at
        share = (log10(value) - log10(first)) / (log10(last) - log10(first))
        return begin_at + (end_at - begin_at) * min(1.0, share)

    return at


def drawing(
    width: Number, height: Number, name: str, title: str, about: str, canvas: Canvas
) -> Markup:
    """A whole drawing, which a screen reader tells by its title and what it is about.

    Args:
        width: in the units of its shapes; on a page it is at most so many pixels wide.
        height: likewise.
        name: unique on the page, for the ids by which title and description are found.
        title: what it shows.
        about: what is to be seen in it, for whoever does not see it.
        canvas: what is drawn.
    """
    wide, name = number(width), escape(name)
    return Markup(  # noqa: S704 - every part is escaped, or made of what is
        f'<svg class="drawing" viewBox="0 0 {wide} {number(height)}" style="max-width:{wide}px;'
        f'min-width:{number(min(width, max(MIN_WIDTH, 0.8 * width)))}px" role="img"'
        f' aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(clean_line(title))}</title>'
        f'<desc id="{name}-d">{escape(clean_line(about))}</desc>'
        f"{Markup('').join(canvas.shapes())}</svg>"
    )
