"""Where text is shown, and rich told so: nothing is left to the environment's guess."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from rich.box import Box
from rich.console import Console, RenderableType

from lab.model.verdict import Outcome

COLOURS = {
    Outcome.HELD: "bold green",
    Outcome.BROKE: "bold red",
    Outcome.UNDECIDED: "bold yellow",
    Outcome.INVALID: "bold magenta",
}

RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""A box of which only the rule under the header is left, in ASCII: whole in any pipe."""


@dataclass(frozen=True)
class Style:
    """How text is to look: ``width`` in columns, whether it may have colour, and block
    characters in its charts; all other text is ASCII."""

    width: int = 100
    colour: bool = False
    blocks: bool = False

    @classmethod
    def of(cls, stream: TextIO, width: int, environment: Mapping[str, str]) -> Style:
        """The style that suits a stream: no colour in a pipe, for NO_COLOR or a dumb terminal;
        blocks where its encoding holds them."""
        dumb = environment.get("TERM") == "dumb"
        plain = environment.get("NO_COLOR") or dumb
        utf = (getattr(stream, "encoding", None) or "").lower().startswith("utf")
        return cls(width=width, colour=stream.isatty() and not plain, blocks=utf and not dumb)

    def render(self, *parts: RenderableType) -> str:
        """The parts as text, a line break after each, without trailing spaces."""
        console = Console(
            file=io.StringIO(),
            width=self.width,
            force_terminal=self.colour,
            color_system="standard" if self.colour else None,
            no_color=not self.colour,
            legacy_windows=False,
            highlight=False,
            emoji=False,
            markup=False,
            _environ={},
        )
        with console.capture() as captured:
            for part in parts:
                console.print(part)
        lines = captured.get().splitlines()
        return "\n".join(line.rstrip() for line in lines) + "\n"
