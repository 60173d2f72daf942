"""The test double of an instance: instant, without a process, and it notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat

from lab.services.cloudrun.instance import Address, DriverError, Ended
from tests.component.cloudrun.virtual import now


@dataclass(frozen=True)
class Plan:
    """How an instance is to behave; times in seconds after its start.

    Args:
        listens: when it listens; None never.
        dies: when it exits with code 1; None never.
        fails: it cannot be made at all.
        cores: what it uses of a core.
        made: seconds that it takes to make it, before it runs.
        frozen: from when to when somebody else withholds its CPU.
        silent: from when to when it does not answer its probes.
        obeys: it ends on SIGTERM, or only on SIGKILL (``kill``), or on nothing (``nothing``).
    """

    listens: float | None = 2.0
    dies: float | None = None
    fails: bool = False
    cores: float = 0.0
    made: float = 0.0
    obeys: str = "term"
    frozen: tuple[float, float] | None = None
    silent: tuple[float, float] | None = None


class Double:
    """An instance as its plan says; ``told`` is what it was told, with the time."""

    def __init__(self, name: str, port: int, cpus: float, plan: Plan) -> None:
        self.name, self.plan, self.begun = name, plan, now()
        self.address: Address = (name, port)
        self.told: list[tuple[float, str]] = [(now(), f"cpus {cpus:g}")]
        self.paused = self.removed = False
        self.gone: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        if plan.dies is not None:
            asyncio.get_running_loop().call_later(plan.dies, self.die)

    def die(self, code: int = 1, oom: bool = False) -> None:
        """End now."""
        if not self.gone.done():
            self.gone.set_result(Ended(code, oom))

    async def listening(self) -> bool:
        return self.plan.listens is not None and now() - self.begun >= self.plan.listens

    async def health(self, within: float) -> str:
        assert not self.paused, "an instance without CPU cannot answer"
        self._note("probe")
        begin, end = self.plan.silent or (0.0, 0.0)
        if not begin <= now() - self.begun < end:
            return ""
        await asyncio.sleep(within)
        return f"no answer within {within:g} s"

    async def set_cpus(self, cpus: float) -> None:
        self._note(f"cpus {cpus:g}")

    async def pause(self) -> None:
        self.paused = True
        self._note("pause")

    async def resume(self) -> None:
        self.paused = False
        self._note("resume")

    async def terminate(self) -> None:
        assert not self.paused, "a paused process cannot act on SIGTERM"
        self._note("term")
        if self.plan.obeys == "term":
            self.die(0)

    async def kill(self) -> None:
        self._note("kill")
        if self.plan.obeys != "nothing":
            self.die(-9)

    async def ended(self) -> Ended:
        return await asyncio.shield(self.gone)

    def usage(self) -> Mapping[str, float]:
        return {"peak_bytes": 1.0, "cpu_s": self.plan.cores * (now() - self.begun)}

    async def withheld(self) -> str:
        if self.plan.frozen and self.plan.frozen[0] <= now() - self.begun < self.plan.frozen[1]:
            return "process 7 was stopped (SIGSTOP)"
        return "process 7 was frozen by its cgroup" if self.paused else ""

    async def read_usage(self) -> float:
        return now()

    async def remove(self) -> None:
        self.removed = True
        if self.plan.obeys == "nothing":
            raise DriverError(f"{self.name} is left over")
        self.die(-9)

    def _note(self, what: str) -> None:
        self.told.append((now(), what))


class Doubles:
    """A driver of doubles, each by the next plan; the last plan holds for all that follow."""

    def __init__(self, plans: Sequence[Plan] = (Plan(),)) -> None:
        self._plans: Iterator[Plan] = chain(plans, repeat(replace(plans[-1])))
        self.made: list[Double] = []
        self.attempts: list[float] = []

    async def start(self, name: str, cpus: float) -> Double:
        plan = next(self._plans)
        self.attempts.append(now())
        if plan.fails:
            raise DriverError("no room")
        if plan.made:
            await asyncio.sleep(plan.made)
        self.made.append(Double(name, len(self.made), cpus, plan))
        return self.made[-1]

    def at(self, address: Address) -> Double:
        """The instance that serves at an address."""
        return self.made[address[1]]

    @property
    def alive(self) -> list[Double]:
        return [double for double in self.made if not double.gone.done()]
