"""What a calibration has found, for the terminal and for ``--json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lab.report import Style
from lab.report.blocks import Heading, Paragraph, Table
from lab.report.terminal import blocks_text


@dataclass(frozen=True)
class Measured:
    """One thing that was held against what it should be; ``value`` in the unit of ``bound``."""

    name: str
    ok: bool
    value: float
    bound: str


@dataclass
class Calibration:
    """All that was measured with one Toxiproxy, and what could not be, with the reason."""

    stack: str
    toxiproxy: str
    measured: list[Measured] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be; never so if nothing was measured."""
        return bool(self.measured) and all(each.ok for each in self.measured)

    def add(self, name: str, value: float, bound: str, ok: bool) -> None:
        """Count one more measurement."""
        self.measured.append(Measured(name, ok, round(value, 6), bound))

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "stack": self.stack,
            "toxiproxy": self.toxiproxy,
            "ok": self.ok,
            "measured": [asdict(each) for each in self.measured],
            "not_measured": self.not_measured,
        }

    def text(self, width: int) -> str:
        """For the terminal."""
        rows = [
            ("ok" if each.ok else "OFF", each.name, f"{each.value:g}", each.bound)
            for each in self.measured
        ]
        table = Table.of(("", "what", "measured", "should be"), rows, right=("measured",))
        title = Heading(f"calibration, {self.stack} stack, {self.toxiproxy} Toxiproxy")
        left_out = [Paragraph(f"not measured: {each}") for each in self.not_measured]
        return blocks_text([title, table, *left_out], Style(width=width))
