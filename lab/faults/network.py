"""Arming faults over Toxiproxy's API, believing nothing that was not read back.

One call of Toxiproxy's API at a time, each with a timeout and a status that is checked.

The only importer of toxiproxy-python (0.1.1), whose shortcomings end here:

* its ``host`` and ``port`` are attributes of a class, so a process knows one server: they
  are set under a lock before each call;
* its ``Proxy`` and ``Toxic`` objects pass no timeout on, so a server that hangs hangs the
  caller: calls go through its ``APIConsumer``, which hands keyword arguments to requests;
* it raises on 400, 404 and 409 only: every other status that is not the expected one, and
  an answer that is not JSON, is an error here;
* it cannot update a toxic and its ``populate`` recreates proxies: neither is used;
* requests takes ``HTTP_PROXY`` from the environment: it is told not to.

The base round trip to the database: what it takes before any delay is added.

    db_rtt  =  base: loopback, proxy, its timer, Postgres  +  delay

Without it a round trip would take longer than it should by that much wall-clock time, and
by ``speed`` times as much real-world time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from lab.errors import InjectionError
from lab.model.evidence import Injected
from lab.model.fault import Armed, Fault, Latency, beyond
from lab.model.knobs import Knobs
from lab.model.units import Span

TIMEOUT = 5.0
"""Seconds that one call of the API may take."""

POLL = 0.02


class ProxyState(BaseModel):
    """A proxy as Toxiproxy reads it back; ``toxics`` are the API's own objects."""

    model_config = ConfigDict(frozen=True)  # the real server shows more than this

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[dict[str, Any], ...]


_STATES = TypeAdapter(dict[str, ProxyState])


class Toxiproxy:
    """A Toxiproxy server, the real one or the lab's own.

    Args:
        api_url: address of its API, as ``http://127.0.0.1:8474``.
        timeout: seconds that one call may take.

    Raises:
        InjectionError: ``api_url`` is no such address.
    """

    def __init__(self, api_url: str, timeout: float = TIMEOUT) -> None:
        self._client = Client(api_url, timeout)
        self.api_url = self._client.url

    def wait_ready(self, within: float = 10.0) -> str:
        """Wait until the server answers; its version.

        Raises:
            InjectionError: it did not answer ``within`` these seconds.
        """
        deadline = time.monotonic() + within
        while True:
            try:
                return self.version()
            except InjectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL)

    def version(self) -> str:
        """What the server says it is; the lab's own server says ``+lab``.

        Raises:
            InjectionError: it cannot be reached, or is no Toxiproxy.
        """
        answer = self._client.call("get", "/version", expect=200)
        version = answer.get("version") if isinstance(answer, dict) else None
        if not isinstance(version, str):
            raise self._client.no_sense("/version", answer)
        return version

    def read_back(self) -> dict[str, ProxyState]:
        """Every proxy as the server has it now, by name.

        Raises:
            InjectionError: the server cannot be reached, or answers what is no proxy.
        """
        answer = self._client.call("get", "/proxies", expect=200)
        try:
            return _STATES.validate_python(answer)
        except ValidationError as error:
            raise self._client.no_sense("/proxies", answer) from error

    def injected(self, t: float, base_s: float = 0.0) -> list[Injected]:
        """What is armed now, as evidence at ``t`` real-world seconds of the load.

        Args:
            t: when, in real-world seconds of the load.
            base_s: what was taken off the distance to the database.

        Raises:
            InjectionError: as `read_back`.
        """
        return [
            Injected(
                t=t,
                proxy=state.name,
                enabled=state.enabled,
                toxics=list(state.toxics),
                base_s=base_s if state.name == "db" else 0.0,
            )
            for state in self.read_back().values()
        ]

    def arm(self, fault: Fault, knobs: Knobs, base_s: float = 0.0) -> ProxyState:
        """Set a fault's toxics, or take its proxy down, and read back that it is so.

        Args:
            fault: of a proxy.
            knobs: whose values its delays may be.
            base_s: to take off the distance to the database, as `lab.faults.network` has it.

        Raises:
            InjectionError: the server cannot be reached, refuses, or did not do it; or the
                fault is not of a proxy.
        """
        if fault.proxy is None:
            what = f"{fault.fault} strikes a part, and Toxiproxy only what passes it"
            raise InjectionError(what, "`lab run` strikes it while the load runs")
        self._state(fault.proxy)
        toxics = fault.armed(beyond(knobs, base_s if fault.proxy == "db" else 0.0))
        for toxic in toxics:
            self._client.call(
                "post",
                f"/proxies/{fault.proxy}/toxics",
                expect=200,
                json=toxic.model_dump(exclude={"proxy"}),
            )
        if fault.down:
            self._client.call(
                "post", f"/proxies/{fault.proxy}", expect=200, json={"enabled": False}
            )
        state = self._state(fault.proxy)
        for toxic in toxics:
            self._check(toxic, state)
        if fault.down and state.enabled:
            raise self._differs(f"proxy '{state.name}' is enabled, not down")
        return state

    def disarm_all(self) -> None:
        """Enable every proxy and remove every toxic, and read back that it is so.

        Raises:
            InjectionError: the server cannot be reached, refuses, or did not do it.
        """
        self._client.call("post", "/reset", expect=204)
        for state in self.read_back().values():
            if state.toxics:
                names = ", ".join(str(toxic.get("name")) for toxic in state.toxics)
                raise self._differs(f"proxy '{state.name}' still has toxics after reset: {names}")
            if not state.enabled:
                raise self._differs(f"proxy '{state.name}' is still down after reset")

    @contextmanager
    def armed(
        self, faults: Sequence[Fault], knobs: Knobs, base_s: float = 0.0
    ) -> Iterator[dict[str, ProxyState]]:
        """Exactly these faults armed, from a clean state to a clean state.

        A strike is no matter of Toxiproxy's and is passed over. An error of disarming never
        hides the first one: it is noted on it.

        Raises:
            InjectionError: as `arm` and `disarm_all`.
        """
        self.disarm_all()
        try:
            for fault in faults:
                if fault.proxy:
                    self.arm(fault, knobs, base_s)
            yield self.read_back()
        except BaseException as first:
            try:
                self.disarm_all()
            except InjectionError as second:
                first.add_note(f"and then: {second}")
            raise
        self.disarm_all()

    def _state(self, proxy: str) -> ProxyState:
        states = self.read_back()
        if proxy not in states:
            has = ", ".join(sorted(states)) or "none"
            raise InjectionError(
                f"Toxiproxy at {self.api_url} has no proxy '{proxy}' (it has: {has})",
                "start the replica's Toxiproxy with its own config",
            )
        return states[proxy]

    def _check(self, armed: Armed, state: ProxyState) -> None:
        found = next((one for one in state.toxics if one.get("name") == armed.name), None)
        if found is None:
            raise self._differs(f"toxic '{armed.name}' was set on '{state.name}' and is not there")
        for key in ("type", "stream", "toxicity", "attributes"):
            wanted, got = getattr(armed, key), found.get(key)
            if not _same(wanted, got):
                raise self._differs(
                    f"toxic '{armed.name}' on '{state.name}': {key} was set to {wanted} "
                    f"and reads back as {got}"
                )

    def _differs(self, what: str) -> InjectionError:
        return InjectionError(f"{what}, at {self.api_url}", "restart the replica's Toxiproxy")


def _same(wanted: object, got: object) -> bool:
    """Whether what was read back is what was set; an attribute not set must be 0."""
    if isinstance(wanted, float) and isinstance(got, int | float):
        return abs(wanted - got) < 1e-6  # the real server holds 32-bit floats
    if isinstance(wanted, dict) and isinstance(got, dict):
        return all(wanted.get(key, 0) == got.get(key) for key in wanted.keys() | got.keys())
    return wanted == got


_LOCK = threading.Lock()


class Client:
    """The API of one server.

    Args:
        api_url: its address, as ``http://127.0.0.1:8474``.
        timeout: seconds that one call may take.

    Raises:
        InjectionError: ``api_url`` is no such address.
    """

    def __init__(self, api_url: str, timeout: float) -> None:
        parts = urlsplit(api_url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise InjectionError(
                f"'{api_url}' is not the address of a Toxiproxy API",
                "write it like 'http://127.0.0.1:8474'",
            )
        self.url = f"http://{parts.hostname}:{parts.port}"
        self._host, self._port, self._timeout = parts.hostname, parts.port, timeout

    def call(
        self, verb: Literal["get", "post", "delete"], path: str, expect: int, **extra: Any
    ) -> Any:
        """The JSON answer of one call; None where there is nothing to read (204).

        Raises:
            InjectionError: no answer in time, another status than ``expect``, or no JSON.
        """
        try:
            with _LOCK:
                APIConsumer.host, APIConsumer.port = self._host, self._port
                answer: requests.Response = getattr(APIConsumer, verb)(
                    path, timeout=self._timeout, proxies={"http": ""}, **extra
                )
        except requests.RequestException as error:
            raise InjectionError(
                f"Toxiproxy at {self.url} does not answer ({type(error).__name__})",
                "its log tells why it is not up",
            ) from error
        except (InvalidToxic, NotFound, ProxyExists) as error:
            raise self._refused(path, error.args[0]) from error
        if answer.status_code != expect:
            raise self._refused(path, answer.content, status=answer.status_code)
        if expect == 204:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise self.no_sense(path, answer.text) from error

    def no_sense(self, path: str, answer: object) -> InjectionError:
        """The error of an answer that is not what Toxiproxy would give."""
        return InjectionError(
            f"{self.url}{path} answered what Toxiproxy would not: {str(answer)[:100]!r}",
            "another program may hold this port",
        )

    def _refused(self, path: str, content: bytes, status: int | None = None) -> InjectionError:
        text = content.decode("utf-8", errors="replace").strip()
        said = f"{status} {text}" if status else text
        return InjectionError(
            f"Toxiproxy at {self.url} refused {path}: {said[:200]}",
            "disarm first, or restart the replica",
        )


MOST_S, LEFT_S = 0.003, 0.001
"""So much wall-clock time is taken off a delay at most, and so much of it left at least.

On two idle cores the base is 1 to 2 ms; where it seems to be more, something else was at
work. Proxies keep whole milliseconds. What is not taken off shows in the stages that the
judge looks at.
"""

NEGLIGIBLE_S = 0.100
"""Of a delay of this wall-clock length the base is a hundredth or two: it is not measured."""


def base_rtt(
    toxiproxy: Toxiproxy, faults: Sequence[Fault], knobs: Knobs, round_trip: Callable[[], float]
) -> float:
    """Wall-clock seconds to take off the delay that stands for the distance to the database.

    Measured behind a delay of about the same length, because a timer that is late is part of
    it: in whole milliseconds, which are the same for each answer.

    Args:
        toxiproxy: nothing is armed there afterwards.
        faults: 0 is given where not exactly one delay of theirs stands for that distance.
        knobs: what is to be armed later.
        round_trip: how many wall-clock seconds one takes as the proxy is now.

    Raises:
        InjectionError: as `Toxiproxy.armed`.
        PartFailed: as ``round_trip``.
    """
    wall_s = knobs.db_rtt.mean / knobs.speed
    if not _one_distance(faults) or not LEFT_S < wall_s < NEGLIGIBLE_S:
        return 0.0
    delay_s = round(wall_s * 1000) / 1000
    real_s = delay_s * knobs.speed
    alone = Latency(type="latency", delay=Span(low=real_s, high=real_s))
    probe = Fault(fault="base-rtt", about="a delay to measure behind", proxy="db", toxics=(alone,))
    with toxiproxy.armed([probe], knobs):
        took_s = round_trip()
    return round(max(0.0, min(took_s - delay_s, MOST_S, wall_s - LEFT_S)), 6)


def _one_distance(faults: Sequence[Fault]) -> bool:
    """Whether one delay is all that a way to the database gets of ``db_rtt``."""
    there = [fault for fault in faults if fault.proxy == "db"]
    latencies = [one for fault in there for one in fault.toxics if isinstance(one, Latency)]
    distances = [one for one in latencies if one.is_distance and one.stream == "downstream"]
    return len(distances) == 1 and not any(fault.down for fault in there)
