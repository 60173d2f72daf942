"""From one cell to the next in containers: the lab, against Compose by hand.

For each kind of change, `ComposeStack.apply` of the changed cell against ``docker compose down
&& docker compose up --wait`` of the same file with the same settings. Both move on by turns in
one run, the lab's replica and the one by hand side by side; each ratio is of one pair.

Usage: python -m benchmarks.compose [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from benchmarks.cells import timed
from lab import paths
from lab.errors import LabError, PartFailed
from lab.model.knobs import Knobs
from lab.stack import ports
from lab.stack.compose import engine, images, project
from lab.stack.compose.environment import Place, variables
from lab.stack.compose.stack import ComposeStack
from tests.fakes import make_cell

ROUNDS = 5
CHANGES: dict[str, dict[str, tuple[object, object]]] = {
    "nothing": {},
    "nginx": {"nginx": ("as-found", "recommended")},
    "backend": {"pool_size": (5, 10)},
    "database": {"db_cap": (20, 25)},
}
"""By kind, the knob that changes, to and fro."""


@dataclass(frozen=True)
class Row:
    """One kind of change: seconds of both (medians), and how many times less the lab takes."""

    what: str
    lab_s: float
    by_hand_s: float
    times: float

    def __str__(self) -> str:
        seconds = f"{self.lab_s:6.2f} s  {self.by_hand_s:6.2f} s"
        return f"{self.what:<20} {seconds}  {self.times:6.1f} x less"


class ByHand:
    """A replica that is brought up by Compose alone, in a place of its own."""

    def __init__(self) -> None:
        nginx, postgres, storage, toxiproxy, gcs, db, speech, to_speech = ports.free(8)
        client = engine.connect()
        self._place = Place(
            net_prefix=project.free_prefix(project.taken_subnets(client)),
            nginx_port=nginx,
            postgres_port=postgres,
            storage_port=storage,
            toxiproxy_port=toxiproxy,
            gcs_proxy_port=gcs,
            db_proxy_port=db,
            speech_port=speech,
            speech_proxy_port=to_speech,
        )
        client.close()
        self._project = f"bench-{nginx}"

    def _compose(self, knobs: Knobs, *arguments: str) -> None:
        command = ["compose", "--file", str(paths.data("compose", "compose.yaml"))]
        given = {**variables(knobs, self._place), **images.tags()}
        done = engine.run([*command, "--project-name", self._project, *arguments], given)
        if done.returncode:
            raise PartFailed(f"docker compose {arguments[0]}: {done.stderr.strip()}")

    def move(self, knobs: Knobs) -> None:
        """Down, and up with these settings; what is in the volumes stays."""
        self._compose(knobs, "down")
        self._compose(knobs, "up", "--wait")

    def close(self) -> None:
        """Remove all of it."""
        self._compose(Knobs(), "down", "--volumes")


def measure(rounds: int, results: Path) -> list[Row]:
    """Every kind of change as often as there are rounds, by turns."""
    lab_s: dict[str, list[float]] = {kind: [] for kind in CHANGES}
    hand_s: dict[str, list[float]] = {kind: [] for kind in CHANGES}
    settings: dict[str, object] = {
        knob: values[0] for change in CHANGES.values() for knob, values in change.items()
    }
    stack, by_hand = ComposeStack(results), ByHand()
    try:
        stack.apply(make_cell(settings))
        by_hand.move(Knobs().with_settings(settings))
        for number in range(rounds):
            for kind, change in CHANGES.items():
                for knob, values in change.items():
                    settings[knob] = values[(number + 1) % 2]
                cell = make_cell(settings)
                lab_s[kind].append(timed(lambda: stack.apply(cell)))  # noqa: B023 - called at once
                hand_s[kind].append(timed(lambda: by_hand.move(cell.knobs)))  # noqa: B023
                print(f"{kind}: {lab_s[kind][-1]:.2f} s, {hand_s[kind][-1]:.2f} s", file=sys.stderr)
    finally:
        by_hand.close()
        stack.close()
    rows = [row(f"{kind} changed", lab_s[kind], hand_s[kind]) for kind in CHANGES]
    return [
        *rows,
        row("median of all", list(chain(*lab_s.values())), list(chain(*hand_s.values()))),
    ]


def row(what: str, lab_s: list[float], by_hand_s: list[float]) -> Row:
    """The medians of both sides and of the ratios of the pairs."""
    times = statistics.median(b / a for a, b in zip(lab_s, by_hand_s, strict=True))
    return Row(what, statistics.median(lab_s), statistics.median(by_hand_s), times)


def main() -> int:
    """Measure and print the ratios; where there is no engine, say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of each kind of change")
    parser.add_argument("--json", action="store_true", help="print JSON")
    flags = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as name:
            rows = measure(flags.rounds, Path(name))
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if flags.json:
        found = {"benchmark": "compose", "cpus": os.cpu_count(), "rows": list(map(asdict, rows))}
        print(json.dumps(found))
    else:
        print(f"{'':<20} {'lab':>8}  {'by hand':>8}", *rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
