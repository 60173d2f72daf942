"""Is there a stored byte that the lab cannot bear? Run folders are damaged at random, and read.

    python -m validation.damage --changes 3000 --seed 1
    python -m validation.damage --only 1742          the change of this number again, and all of it

Each change is made to a copy of a small run folder: one of those stored with the tests, or one that
today's lab has just made. Bytes are flipped, lines dropped, doubled and swapped, numbers become
hostile ones, keys go, types change, files are cut, filled, nested, made huge, or replaced by a
link, a named pipe, a socket or a folder; one to three of these at once. Then ``lab judge``,
``report``, ``runs`` and ``summary`` are run on it, as a user would. Wrong is

    an error that is unexpected, a traceback, or more than one line of it;
    an exit code that is none of the lab's;
    more than 10 s of CPU, 60 s of nothing, or 500 MB, for one change;
    a file outside the run folder that is not as it was, or another run of it that is not reported.

The change of a number is the same for one seed, whatever else is changed. A thousand take about
forty seconds on two idle cores.

Exit code: 0 nothing is wrong, 1 something is, 2 usage.
"""

from __future__ import annotations

import functools
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.archives import unpack
from lab.cli import main as lab
from lab.cli import summary
from lab.cli.options import known_faults
from validation.command import exit_code, parser, positive, whole
from validation.fresh_run import make_fresh

STORED = Path(__file__).parent.parent / "tests" / "fixtures" / "stored_runs"
SECONDS = 10
BYTES = 500 * 1000**2
SILENT_S = 6 * SECONDS
"""After so long a process that waits, or could not be interrupted, is ended."""
BATCH = 100
"""Changes that one process makes: what it leaves in memory is not laid to the next ones."""

SHOWN = 50
"""A line tells of so many batches how far it is."""

CELLS, LINES = 2, 40
"""A run is cut to so many cells, and to about so many lines of each file, to be read quickly."""

EDITED = 20 * 1000**2
"""Bytes up to which a file is changed again: a change reads it whole, into this test's memory."""

CODES = {0, 2, 3, 4}

NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "1e308", "-1e308", "1e999", "5e-324", "-1", "0", "-0.0"),
    *("749958119", "1e6", "1e9", "1e13", "9007199254740993", "18446744073709551616", "9" * 400),
    *("9" * 5000, "null", "true", '"1"', "[]", "{}", "0.1", "3", "1e-9", "86400", "2e7"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e9, "", "x" * 10_000, "\0", "\x1b[31m"),
    *([], {}, [[]], {"a": 1}, ["a"]),
)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Wrong:
    """A change that the lab could not bear, and what came of it."""

    number: int
    change: str
    problem: str


Change = Callable[[Path, random.Random], str]


def _flip(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    places = [rng.randrange(len(data)) for _ in range(rng.randint(1, 4))] if data else []
    for place in places:
        data[place] = rng.choice((data[place] ^ (1 << rng.randrange(8)), rng.randrange(256)))
    file.write_bytes(data)
    return f"bytes {places}"


def _digit(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    found = list(_NUMBER.finditer(data))
    if not found:
        return "no number"
    match = rng.choice(found)
    value = rng.choice(NUMBERS)
    file.write_bytes(data[: match.start()] + value.encode() + data[match.end() :])
    return f"{match[0].decode()} at {match.start()} became {value[:20]}"


def _lines(file: Path, rng: random.Random) -> str:
    lines = file.read_bytes().splitlines(keepends=True)
    if not lines:
        return "no line"
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.choice(("dropped", "doubled", "swapped", "moved into it", "joined"))
    if kind == "dropped":
        del lines[at]
    elif kind == "doubled":
        lines[at:at] = [lines[at]] * rng.choice((1, 1, 50))
    elif kind == "swapped":
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "joined":
        lines[at] = lines[at].rstrip(b"\n")
    else:
        neighbour = rng.choice(sorted(file.parent.iterdir()))
        if neighbour.is_file() and not neighbour.is_symlink():
            with neighbour.open("rb") as source:
                lines[at:at] = source.read(10_000).splitlines(keepends=True)[:5]
    file.write_bytes(b"".join(lines))
    return f"line {at + 1} {kind}"


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        keys = value.keys() if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield (*place, key)
            yield from _places(value[key], (*place, key))


def _value(file: Path, rng: random.Random) -> str:
    """A key dropped, renamed or twice there, another value, or one nested beyond all measure."""
    text = file.read_bytes()
    lines = text.split(b"\n") if file.suffix == ".jsonl" else [text]
    at = rng.randrange(len(lines))
    try:
        data = json.loads(lines[at])
    except (ValueError, RecursionError):  # an earlier change has been here
        return "no JSON"
    places = list(_places(data))
    if not places:
        return "no value"
    kind = rng.choice(tuple(VALUE_CHANGES))
    place = rng.choice(places)
    VALUE_CHANGES[kind](_at(data, place[:-1]), place[-1], _at(data, rng.choice(places)), rng)
    written = json.dumps(data, ensure_ascii=rng.random() < 0.5)
    depth = rng.choice((50, 300, 2000, 100_000))
    nested = rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth))
    written = written.replace(f'"{NESTED}"', nested, 1)
    if rng.random() < 0.1:  # a key twice
        written = written.replace("{", '{"t": 1, "id": "x", ', 1)
    lines[at] = written.encode(errors="surrogatepass")
    file.write_bytes(b"\n".join(lines))
    return f"{place} {kind}"


NESTED = "<nested>"


def _at(data: Any, place: Sequence[Any]) -> Any:
    for step in place:
        data = data[step]
    return data


def _drop(inner: Any, key: Any, _other: Any, _rng: random.Random) -> None:
    del inner[key]


def _another(inner: Any, key: Any, _other: Any, rng: random.Random) -> None:
    inner[key] = rng.choice(VALUES)


def _of_a_neighbour(inner: Any, key: Any, other: Any, _rng: random.Random) -> None:
    inner[key] = json.loads(json.dumps(other))


def _rename(inner: Any, key: Any, _other: Any, rng: random.Random) -> None:
    if isinstance(inner, dict):
        inner[rng.choice((f"{key}x", "", "schema_version", "kind", "t"))] = inner.pop(key)


def _nest(inner: Any, key: Any, _other: Any, _rng: random.Random) -> None:
    inner[key] = NESTED


VALUE_CHANGES: dict[str, Callable[[Any, Any, Any, random.Random], None]] = {
    "dropped": _drop,
    "another": _another,
    "a neighbour's": _of_a_neighbour,
    "renamed": _rename,
    "nested": _nest,
}


def _cut(file: Path, rng: random.Random) -> str:
    size = rng.randint(0, file.stat().st_size)
    os.truncate(file, rng.choice((0, size, size, size)))
    return f"cut to {file.stat().st_size} bytes"


def _fill(file: Path, rng: random.Random) -> str:
    """More than was there: zeros, or a line, without end; the same lines again and again."""
    kind = rng.choice(("zeros", "zeros", "a line", "again", "again", "brackets"))
    content = file.read_bytes()
    if kind == "zeros":
        size = rng.choice((10**5, 10**8, 2 * 10**9))
        os.truncate(file, size)
        return f"{size} bytes, zeros at its end"
    with file.open("ab") as out:
        if kind == "a line":
            out.write(b'"' + b"x" * rng.choice((10**6, 6 * 10**6)))
        elif kind == "again":
            for _ in range(rng.choice((1, 3, 30, 300))):
                out.write(content)
        else:
            out.write(b"[" * rng.choice((10**3, 3 * 10**6)))
    return f"{file.stat().st_size} bytes: {kind}"


def _garbage(file: Path, rng: random.Random) -> str:
    kind = rng.choice(
        (b"", b"\0" * 50, b"[" * 10**5, b"{}", b"[]", b"null", b"\xff\xfe", b"1" * 9999)
    )
    file.write_bytes(kind)
    return f"is {kind[:10]!r}"


def _replaced(file: Path, rng: random.Random) -> str:
    """By something that is no file, or a file by a folder and a folder by a file."""
    others = next(parent for parent in file.parents if parent.name == "results").parent / "others"
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink()
    kind = rng.choice(
        ("file", "folder link", "nowhere", "device", "pipe", "socket", "folder", "itself")
    )
    target = {
        "file": others / "a.json",
        "folder link": others,
        "nowhere": others / "none",
        "device": Path("/dev/zero"),
        "itself": file,
    }
    if kind in target:
        file.symlink_to(target[kind])
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
        (file / "a.json").write_text("somebody else's")
    else:
        here = os.open(file.parent, os.O_RDONLY)  # a socket's path may have 107 bytes
        with socket.socket(socket.AF_UNIX) as listener, suppress(OSError):
            listener.bind(f"/proc/self/fd/{here}/{file.name}")
        os.close(here)
    return f"replaced: {kind}"


LEADING = ("file", "folder link", "nowhere", "device", "itself")
"""Where a link leads that is in place of a file."""

CHANGES: tuple[Change, ...] = (
    *(_flip, _flip, _digit, _digit, _digit, _lines, _lines, _value, _value, _value),
    *(_cut, _garbage, _fill, _replaced),
)


def change(run: Path, rng: random.Random) -> str:
    """Damage a run folder; what was done to it."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        present = sorted(path for path in run.rglob("*") if not path.is_symlink())
        files = [path for path in present if path.is_file() and path.stat().st_size <= EDITED]
        how = rng.choice(CHANGES)
        chosen = rng.choice(present if how is _replaced else files) if files else run
        if chosen is not run:
            done.append(f"{chosen.relative_to(run)}: {how(chosen, rng)}")
    return "; ".join(done)


def _cut_down(run: Path) -> None:
    """Fewer cells and fewer lines, that each change is read quickly; still a run like others."""
    info = json.loads((run / "run.json").read_text())
    keep = sorted((run / "cells").iterdir())[: CELLS + 1]
    if info.get("kind") != "threshold":
        declared = [cell_id for cell_id in info["cells"] if (run / "cells" / cell_id) in keep]
        info["cells"] = declared[:CELLS]
        keep = [run / "cells" / cell_id for cell_id in info["cells"]]
    (run / "run.json").write_text(json.dumps(info))
    for cell in (run / "cells").iterdir():
        if cell not in keep:
            shutil.rmtree(cell)
    for file in run.glob("cells/*/*.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        step = max(1, len(lines) // LINES)
        file.write_text("".join([*lines[:-1:step], lines[-1]]))


def prepare(folder: Path) -> list[Path]:
    """The runs that are damaged, each in a results folder of its own, with their specs beside."""
    runs: list[Path] = []
    for archive in sorted(STORED.glob("*.tar.xz")):
        results = folder / archive.name.removesuffix(".tar.xz") / "results"
        with tarfile.open(archive) as tar:
            unpack(tar, results)
        runs += results.iterdir()
    fresh = folder / "fresh" / "results"
    make_fresh(fresh)
    (fresh / "latest").unlink()
    runs += fresh.iterdir()
    for run in runs:
        _cut_down(run)
        spec = json.loads((run / "run.json").read_text())["experiment"]
        (run.parent.parent / "spec.yaml").write_text(json.dumps(spec))  # JSON is YAML
    return runs


class OutOfTime(BaseException):
    """A change takes longer than it may."""


def _out_of_time(_number: int, _frame: object) -> None:
    raise OutOfTime


@contextmanager
def _limits() -> Iterator[None]:
    """Memory for this process: what it has, and `BYTES`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    signal.signal(signal.SIGPROF, _out_of_time)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """A command of the lab's in this process: its exit code, output and errors."""
    sys.argv = ["lab", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    code = -1
    with redirect_stdout(out), redirect_stderr(err):
        try:
            lab()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()


def _problem(ended: tuple[int, str, str]) -> str:
    """What is wrong with how a command ended; empty: nothing is."""
    code, _, err = ended
    if "unexpected" in err or "Traceback" in err:
        return err[-400:]
    if code not in CODES:
        return f"exit code {code}"
    errors = [line for line in err.splitlines() if line.startswith("lab: ")]
    return f"{len(errors)} lines: {err[-300:]}" if len(errors) != (code in (2, 3)) else ""


def _state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder: its kind, when it was written, and what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


@dataclass(frozen=True)
class Bench:
    """Where one process damages runs: copies of ``runs`` under ``folder``."""

    folder: Path
    runs: Sequence[Path]

    def tried(self, seed: int, number: int) -> Wrong | None:
        """Make a change and have the lab read it; what is wrong, if anything."""
        rng = random.Random(f"{seed} {number}")
        original = self.runs[number % len(self.runs)]
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        run = work / "results" / original.name
        shutil.copytree(original, run)
        others = work / "others"
        others.mkdir()
        (others / "a.json").write_text("somebody else's")
        sound_run = next(other for other in self.runs if other != original)
        beside = shutil.copytree(sound_run, work / "results" / sound_run.name)
        made = change(run, rng)
        sound = _state(others), _state(beside)
        began = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            problem = self._read(run, original.parent.parent / "spec.yaml", beside)
        except OutOfTime:
            problem = f"took more than {SECONDS} s of CPU"
        except MemoryError:
            problem = "took too much memory"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if (_state(others), _state(beside)) != sound:
            problem += " and something outside is not as it was"
        took = f" ({time.monotonic() - began:.1f} s)"
        return Wrong(number, made, problem + took) if problem else None

    @staticmethod
    def _read(run: Path, spec: Path, beside: Path) -> str:
        results = beside.parent
        for arguments in (
            ("judge", run),
            ("report", run),
            ("report", run, "--markdown"),
            ("runs", "--results", results),
            ("summary", spec, "--results", results),
        ):
            ended = command(*arguments)
            if problem := _problem(ended):
                return f"lab {arguments[0]}: {problem}"
            if arguments[0] == "runs" and beside.name not in ended[1]:
                return "lab runs does not list the other run"
        return ""


def _work(pipe: Connection, folder: Path, runs: Sequence[Path], seed: int, todo: range) -> None:
    """Try the changes of some numbers, and tell of each as it begins and ends."""
    bench = Bench(folder, runs)
    # The lab's own faults are not damaged: to read them again would take a fifth of the time.
    summary.known_faults = functools.cache(known_faults)  # type: ignore[attr-defined]
    command("judge", shutil.copytree(runs[0], folder / "warm" / runs[0].name))  # imports
    with _limits():
        for number in todo:
            pipe.send((number, None))
            wrong = bench.tried(seed, number)
            pipe.send((number, wrong or ""))


def _batch(folder: Path, runs: Sequence[Path], seed: int, todo: range) -> Iterator[Wrong]:
    """The same in a process of its own, which is begun anew where a change has ended it."""
    context = multiprocessing.get_context("fork")
    while todo:
        ours, theirs = context.Pipe(duplex=False)
        with TemporaryDirectory(dir=folder) as own:
            process = context.Process(target=_work, args=(theirs, Path(own), runs, seed, todo))
            process.start()
            begun = todo[0]
            while todo and (wait([ours, process.sentinel], SILENT_S) and ours.poll()):
                begun, outcome = ours.recv()
                todo = range(begun + (outcome is not None), todo.stop)
                if outcome:
                    yield outcome
            if todo:
                yield Wrong(begun, "?", f"the process died, or was silent for {SILENT_S} s")
                todo = range(begun + 1, todo.stop)
            process.kill()
            process.join()


def _share(arguments: tuple[Path, Sequence[Path], int, range]) -> list[Wrong]:
    return list(_batch(*arguments))


def damage(changes: range, seed: int, processes: int = 1) -> Iterator[list[Wrong]]:
    """Make the changes of these numbers; what is wrong, batch by batch."""
    with TemporaryDirectory(prefix="damage-") as folder:
        runs = prepare(Path(folder) / "runs")
        batches = [
            (Path(folder), runs, seed, range(first, min(first + BATCH, changes.stop)))
            for first in range(changes.start, changes.stop, BATCH)
        ]
        if processes == 1:
            yield from map(_share, batches)
            return
        from concurrent.futures import ThreadPoolExecutor  # each waits for its process

        with ThreadPoolExecutor(processes) as pool:
            yield from pool.map(_share, batches)


def main() -> int:
    """Damage, and print a line for each change that is not borne."""
    flags_parser = parser("validation.damage", __doc__ or "")
    flags_parser.add_argument("--changes", type=positive, default=3000, help="default: 3000")
    flags_parser.add_argument(
        "--first", type=whole, default=0, metavar="NUMBER", help="begin with this one (default: 0)"
    )
    flags_parser.add_argument("--seed", type=int, default=1, help="of the changes (default: 1)")
    flags_parser.add_argument("--processes", type=positive, default=2, help="default: 2")
    flags_parser.add_argument("--only", type=positive, metavar="NUMBER", help="this change alone")
    flags_parser.add_argument("--json", action="store_true", help="print JSON")
    flags = flags_parser.parse_args()
    numbers = range(flags.first, flags.first + flags.changes)
    if flags.only is not None:
        numbers = range(flags.only, flags.only + 1)
    began, wrong = time.monotonic(), []
    for batches, found in enumerate(damage(numbers, flags.seed, flags.processes), 1):
        wrong += found
        if batches % SHOWN == 0:
            print(f"{batches * BATCH} of {len(numbers)} made", file=sys.stderr, flush=True)
        for one in [] if flags.json else found:
            print(f"WRONG {one.number}: {one.change}\n      {one.problem}", flush=True)
    took = time.monotonic() - began
    if flags.json:
        print(json.dumps({"changes": len(numbers), "wrong": [asdict(one) for one in wrong]}))
    else:
        print(f"{len(numbers) - len(wrong)} of {len(numbers)} changes are borne, in {took:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
