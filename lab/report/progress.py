"""A run while it runs: one live line on a terminal, one plain line a phase elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from lab.model.run import LoadTick, Phase, Progress
from lab.model.text import Styled, clean_line
from lab.report import format

_SHORTEST = 8

OTHER_LINES = 2
"""Of a terminal, those that the live line and the cursor take."""

WORDS: Mapping[Phase, str] = {
    "applying": "settings",
    "arming": "faults",
    "drain": "answers",
    "auditing": "audit",
    "judging": "verdict",
    "waiting": "wait",
}
"""What a phase is about, for who has not seen the code; the others say it themselves."""


def line(progress: Progress, width: int) -> str:
    """The state of a run on one line of at most ``width`` columns.

    How far the load is, and its rate, are in real-world time, as all figures are; what is left is
    by the clock on the wall. Where room is short, the middle of the cell's id goes first, then the
    word that says so, then what stands last.
    """
    head = f"[{progress.index}/{progress.cells}] "
    tail = _tail(progress, "real-world ")
    if len(head) + _SHORTEST + 2 + len(tail) > width:
        tail = _tail(progress, "")
    room = max(width - len(head) - len(tail) - 2, _SHORTEST)
    return f"{head}{_short(clean_line(progress.cell), room)}  {tail}"[: max(width, 0)].rstrip()


def _tail(progress: Progress, time: str) -> str:
    """What stands after the cell's id; ``time`` says of what the load's seconds are."""
    parts = [f"{WORDS.get(progress.phase, progress.phase):<9}", *_load(progress.tick, time)]
    if progress.busy:
        parts.append(f"until this machine is quiet: {clean_line(progress.busy)}")
    if progress.attempt > 1:
        parts.append(f"attempt {progress.attempt}")
    return "  ".join((*parts, f"{format.clock(progress.left_s)} left"))


def _load(tick: LoadTick | None, time: str) -> list[str]:
    if tick is None:
        return []
    failed = f"{tick.failed} failed"
    if tick.failed and tick.answered:
        failed += f" ({format.percent(min(1.0, tick.failed / tick.answered))})"
    rate = f"{format.significant(tick.rate)}/s"
    return [f"{time}{tick.t:.0f} s", f"{tick.users} users", rate, failed]


def _short(text: str, room: int) -> str:
    """The text, its middle replaced by two dots where it is longer than ``room``."""
    if len(text) <= room:
        return text
    left = (room - 2) // 2
    return f"{text[:left]}..{text[len(text) - (room - 2 - left) :]}"


class _Styled:
    """The stream, for rich's colours and moves; the texts among them are cleaned before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(Styled(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LiveLine:
    """Shows progress on a stream while a run goes on; a context manager.

    Args:
        stream: where to show it, standard error as a rule.
        environment: the process's environment; NO_COLOR and TERM are looked at.
        width: columns to use; the terminal's where it is None.
    """

    def __init__(
        self, stream: TextIO, environment: Mapping[str, str], width: int | None = None
    ) -> None:
        self._stream = stream
        self._plain = not stream.isatty() or environment.get("TERM") == "dumb"
        self._console = Console(
            file=cast(TextIO, _Styled(stream)),
            width=width,
            no_color=bool(environment.get("NO_COLOR")),
            highlight=False,
            markup=False,
            _environ=environment,
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._last: tuple[str, str] | None = None
        self._line = Text()
        self._standings: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        if not self._plain:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show a new state: at once on a terminal; elsewhere only when the phase has changed."""
        now = (progress.cell, progress.phase)
        if not self._plain:
            text = line(progress, self._console.width)
            self._line = Text(text, style="cyan", no_wrap=True)
            self._refresh()
        elif now != self._last:
            self._stream.write(line(progress, 200) + "\n")
            self._stream.flush()
        self._last = now

    def show_standings(self, lines: Mapping[str, str]) -> None:
        """Show how far each cell is: under the live line on a terminal; elsewhere what is new.

        Args:
            lines: all of them, by the cells' ids.
        """
        if self._plain:
            for name, text in lines.items():
                if self._standings.get(name) != text:
                    self.print(text)
        self._standings = dict(lines)
        if not self._plain:
            self._refresh()

    def _refresh(self) -> None:
        """The live line, and as many standings as the terminal has room for."""
        texts = [clean_line(text) for text in self._standings.values()]
        room = max(1, self._console.height - OTHER_LINES)
        if len(texts) > room:
            texts = [*texts[: room - 1], f"... and {len(texts) - room + 1} more cells"]
        cut = (Text(text, no_wrap=True, overflow="ellipsis") for text in texts)
        self._live.update(Group(self._line, *cut), refresh=True)

    def print(self, text: str) -> None:
        """Print a line that stays, above the live line."""
        if self._plain:
            self._stream.write(clean_line(text) + "\n")
            self._stream.flush()
        else:
            self._console.print(clean_line(text), soft_wrap=True)
