"""The same cells on both stacks, one stack after the other: do they tell the same story?

For each cell the verdict and the leading cause on both, and the ratio compose / embedded of
throughput and p95. A cell that is invalid on either stack is shown and not compared.

Usage: python -m benchmarks.stacks [--spec FILE] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.paths import ROOT

SPEC = ROOT / "experiments" / "both-stacks.yaml"
STACKS = ("embedded", "compose")
FINE = (0, 4)
"""Exit codes of a run that ended: every cell measured, or some that show nothing."""


@dataclass(frozen=True)
class Row:
    """One cell on both stacks; a ratio is None where a side has no such figure."""

    cell: str
    verdicts: tuple[str, str]
    causes: tuple[str, str]
    throughput: float | None
    p95: float | None

    def __str__(self) -> str:
        figures = (self.throughput, self.p95)
        ratios = (f"{'-':>5}" if value is None else f"{value:5.3f}" for value in figures)
        verdicts, causes = " / ".join(self.verdicts), " / ".join(self.causes)
        return f"{self.cell:<30} {verdicts:<20} {causes:<24} {'  '.join(ratios)}"


def leading(metrics: dict[str, float]) -> str:
    """The cause of most failures; ``-`` where nothing failed."""
    counts = {name.removeprefix("errors."): n for name, n in metrics.items() if "errors." in name}
    cause = max(counts, key=counts.__getitem__, default="-")
    return cause if counts.get(cause) else "-"


def ratio(ours: dict[str, Any], other: dict[str, Any], metric: str) -> float | None:
    """One metric of a cell on one stack over that on the other."""
    if "invalid" in (ours["verdict"], other["verdict"]):
        return None
    over, under = ours["metrics"].get(metric), other["metrics"].get(metric)
    return over / under if over is not None and under else None


def run(spec: Path, stack: str, results: Path) -> list[dict[str, Any]]:
    """The cells of a run's summary."""
    command = [sys.executable, "-m", "lab", "run", str(spec), "--stack", stack, "--json"]
    command += ["--retries", "0"]
    done = subprocess.run(
        [*command, "--results", str(results)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    if done.returncode not in FINE:
        raise SystemExit(done.returncode)
    return list(json.loads(done.stdout)["cells"])


def main() -> None:
    """Measure and print the table; the exit code is that of a run that could not be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, default=SPEC, help="which cells")
    parser.add_argument("--json", action="store_true", help="print JSON")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        embedded, compose = (run(flags.spec, stack, Path(name)) for stack in STACKS)
    rows = [
        Row(
            ours["id"],
            (other["verdict"], ours["verdict"]),
            (leading(other["metrics"]), leading(ours["metrics"])),
            ratio(ours, other, "throughput"),
            ratio(ours, other, "p95"),
        )
        for ours, other in zip(compose, embedded, strict=True)
    ]
    if flags.json:
        print(json.dumps({"benchmark": "stacks", "rows": list(map(asdict, rows))}))
        return
    print(f"{'cell':<30} {'embedded / compose':<20} {'led by':<24} {'up/s':>5}  {'p95':>5}")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
