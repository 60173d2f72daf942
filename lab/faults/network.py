"""Network faults over Toxiproxy's API; every change is read back.

    Fault ──to_toxics──> inject ──> Toxiproxy ──> read_back ──> Injected (evidence)

The only importer of toxiproxy-python (0.1.1), whose shortcomings are handled here:

* its ``host`` and ``port`` are attributes of a class, so a process knows one server: they
  are set under a lock before every call;
* its ``Proxy`` and ``Toxic`` objects pass no timeout on, so a server that hangs would hang
  the caller: calls go through its ``APIConsumer``, which hands keyword arguments to requests;
* it raises on 400, 404 and 409 only: every other status that is not the expected one, and
  an answer that is not JSON, is an error here;
* it cannot update a toxic and its ``populate`` recreates proxies: neither is used;
* requests takes ``HTTP_PROXY`` from the environment: that is switched off.

The delay to the database is the distance ``db_rtt`` minus the base, which is the round trip
without any delay:

    db_rtt  =  base: loopback, proxy, its timer, Postgres  +  delay

If the base were not subtracted, a round trip would be too long by that much wall-clock time,
and by ``speed`` times as much real-world time.
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
from lab.model.fault import Fault, Latency, WireToxic, without_base
from lab.model.knobs import Knobs
from lab.model.units import Span

TIMEOUT_S = 5.0
"""How long a call of the API may take."""

POLL_S = 0.02

MAX_BASE_S, MIN_DELAY_S = 0.003, 0.001
"""At most this much wall-clock time is subtracted from a delay, and at least this much left.

On two idle cores the base is 1 to 2 ms; if it seems to be more, the machine was busy with
something else. Proxies keep whole milliseconds. What is not subtracted shows in the stages
that the judge checks.
"""

NEGLIGIBLE_S = 0.100
"""For a delay of this wall-clock length the base is 1 or 2 % and is not measured."""

_LOCK = threading.Lock()


class ProxyState(BaseModel):
    """A proxy as the API returns it; ``toxics`` are the API's own objects."""

    model_config = ConfigDict(frozen=True)  # the real server shows more than this

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[dict[str, Any], ...]


_STATES = TypeAdapter(dict[str, ProxyState])


class Toxiproxy:
    """A Toxiproxy server, the real one or the lab's own.

    Every call raises an InjectionError if the server does not answer in time, refuses, or
    answers what Toxiproxy would not.

    Args:
        api_url: address of its API, as ``http://127.0.0.1:8474``.
        timeout: seconds that a call may take.

    Raises:
        InjectionError: ``api_url`` is no such address.
    """

    def __init__(self, api_url: str, timeout: float = TIMEOUT_S) -> None:
        parts = urlsplit(api_url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise InjectionError(
                f"'{api_url}' is not the address of a Toxiproxy API",
                "write it like 'http://127.0.0.1:8474'",
            )
        self.api_url = f"http://{parts.hostname}:{parts.port}"
        self._host, self._port, self._timeout = parts.hostname, parts.port, timeout

    def wait_ready(self, within: float = 10.0) -> str:
        """Wait until the server answers, and return its version.

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
                time.sleep(POLL_S)

    def version(self) -> str:
        """The server's version; the lab's own server adds ``+lab``."""
        answer = self._call("get", "/version", expect=200)
        version = answer.get("version") if isinstance(answer, dict) else None
        if not isinstance(version, str):
            raise self._not_toxiproxy("/version", answer)
        return version

    def read_back(self) -> dict[str, ProxyState]:
        """Every proxy as the server has it now, by name."""
        answer = self._call("get", "/proxies", expect=200)
        try:
            return _STATES.validate_python(answer)
        except ValidationError as error:
            raise self._not_toxiproxy("/proxies", answer) from error

    def evidence(self, t: float, base_s: float = 0.0) -> list[Injected]:
        """What is read back now, as evidence.

        Args:
            t: when, in real-world seconds of the load.
            base_s: wall-clock seconds that were subtracted from the distance to the database.
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

    def inject(self, fault: Fault, knobs: Knobs, base_s: float = 0.0) -> ProxyState:
        """Set a fault's toxics, or take its proxy down, and read back that it is done.

        Args:
            fault: of a proxy.
            knobs: the values that its delays may refer to.
            base_s: wall-clock seconds to subtract from the distance to the database (`base_rtt`).

        Raises:
            InjectionError: the server did not do it; or the fault is not of a proxy.
        """
        if fault.proxy is None:
            what = f"{fault.fault} is a process fault, and Toxiproxy has network faults only"
            raise InjectionError(what, "`lab run` carries it out while the load runs")
        self._state(fault.proxy)
        toxics = fault.to_toxics(without_base(knobs, base_s if fault.proxy == "db" else 0.0))
        path = f"/proxies/{fault.proxy}"
        for toxic in toxics:
            as_json = toxic.model_dump(exclude={"proxy"})
            self._call("post", f"{path}/toxics", expect=200, json=as_json)
        if fault.down:
            self._call("post", path, expect=200, json={"enabled": False})
        state = self._state(fault.proxy)
        for toxic in toxics:
            self._check(toxic, state)
        if fault.down and state.enabled:
            raise self._differs(f"proxy '{state.name}' is enabled, not down")
        return state

    def remove_all(self) -> None:
        """Enable every proxy and remove every toxic, and read back that it is done.

        Raises:
            InjectionError: the server did not do it.
        """
        self._call("post", "/reset", expect=204)
        for state in self.read_back().values():
            if state.toxics:
                names = ", ".join(str(toxic.get("name")) for toxic in state.toxics)
                raise self._differs(f"proxy '{state.name}' still has toxics after reset: {names}")
            if not state.enabled:
                raise self._differs(f"proxy '{state.name}' is still down after reset")

    @contextmanager
    def injected(
        self, faults: Sequence[Fault], knobs: Knobs, base_s: float = 0.0
    ) -> Iterator[dict[str, ProxyState]]:
        """Exactly these faults inside the block, from a clean state to a clean state.

        Process faults do not concern Toxiproxy and are skipped. A failure to remove the faults
        never hides an earlier error: it becomes a note on it.

        Raises:
            InjectionError: as `inject` and `remove_all`.
        """
        self.remove_all()
        try:
            for fault in faults:
                if fault.proxy:
                    self.inject(fault, knobs, base_s)
            yield self.read_back()
        except BaseException as first:
            try:
                self.remove_all()
            except InjectionError as second:
                first.add_note(f"and then: {second}")
            raise
        self.remove_all()

    def _state(self, proxy: str) -> ProxyState:
        states = self.read_back()
        if proxy not in states:
            has = ", ".join(sorted(states)) or "none"
            raise InjectionError(
                f"Toxiproxy at {self.api_url} has no proxy '{proxy}' (it has: {has})",
                "start the replica's Toxiproxy with its own config",
            )
        return states[proxy]

    def _check(self, toxic: WireToxic, state: ProxyState) -> None:
        """Raise if a toxic does not read back as it was set."""
        read = next((read for read in state.toxics if read.get("name") == toxic.name), None)
        if read is None:
            raise self._differs(f"toxic '{toxic.name}' was set on '{state.name}' and is not there")
        for key in ("type", "stream", "toxicity", "attributes"):
            wanted, got = getattr(toxic, key), read.get(key)
            if not _same(wanted, got):
                raise self._differs(
                    f"toxic '{toxic.name}' on '{state.name}': {key} was set to {wanted} "
                    f"and reads back as {got}"
                )

    def _call(self, verb: Literal["get", "post"], path: str, expect: int, **extra: Any) -> Any:
        """The JSON answer of a call; None if there is nothing to read (204).

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
                f"Toxiproxy at {self.api_url} does not answer ({type(error).__name__})",
                "its log says why it is not up",
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
            raise self._not_toxiproxy(path, answer.text) from error

    def _refused(self, path: str, content: bytes, status: int | None = None) -> InjectionError:
        text = content.decode("utf-8", errors="replace").strip()
        answer = f"{status} {text}" if status else text
        return InjectionError(
            f"Toxiproxy at {self.api_url} refused {path}: {answer[:200]}",
            "remove its faults first, or restart the replica",
        )

    def _not_toxiproxy(self, path: str, answer: object) -> InjectionError:
        return InjectionError(
            f"{self.api_url}{path} answered what Toxiproxy would not: {str(answer)[:100]!r}",
            "another program may hold this port",
        )

    def _differs(self, what: str) -> InjectionError:
        return InjectionError(f"{what}, at {self.api_url}", "restart the replica's Toxiproxy")


def _same(wanted: object, got: object) -> bool:
    """Whether a value reads back as it was set; an attribute that was not set must be 0."""
    if isinstance(wanted, float) and isinstance(got, int | float):
        return abs(wanted - got) < 1e-6  # the real server holds 32-bit floats
    if isinstance(wanted, dict) and isinstance(got, dict):
        return all(wanted.get(key, 0) == got.get(key) for key in wanted.keys() | got.keys())
    return wanted == got


def base_rtt(
    toxiproxy: Toxiproxy,
    faults: Sequence[Fault],
    knobs: Knobs,
    round_trip: Callable[[float], float],
) -> float:
    """Wall-clock seconds to subtract from the delay that stands for the distance to the database.

    Measured behind a delay of about the same length, because the lateness of the proxy's timer
    is part of it. That delay is in whole milliseconds, so that it is the same for every answer.

    Args:
        toxiproxy: has no faults afterwards.
        faults: the result is 0 unless exactly one delay of theirs stands for that distance.
        knobs: with which they are injected later.
        round_trip: measures a round trip through the proxy as it is now, which delays it by so many
            seconds; both of the wall clock.

    Raises:
        InjectionError: as `Toxiproxy.injected`.
        PartFailed: as ``round_trip``.
    """
    wall_s = knobs.db_rtt.mean / knobs.speed
    if not _has_one_distance(faults) or not MIN_DELAY_S < wall_s < NEGLIGIBLE_S:
        return 0.0
    delay_s = round(wall_s * 1000) / 1000
    real_s = delay_s * knobs.speed
    delay = Latency(type="latency", delay=Span(low=real_s, high=real_s))
    probe = Fault(fault="base-rtt", about="a delay to measure behind", proxy="db", toxics=(delay,))
    with toxiproxy.injected([probe], knobs):
        took_s = round_trip(delay_s)
    return round(max(0.0, min(took_s - delay_s, MAX_BASE_S, wall_s - MIN_DELAY_S)), 6)


def _has_one_distance(faults: Sequence[Fault]) -> bool:
    """Whether exactly one delay of these faults stands for ``db_rtt``, and the proxy is up."""
    before_db = [fault for fault in faults if fault.proxy == "db"]
    toxics = [toxic for fault in before_db for toxic in fault.toxics]
    distances = [toxic for toxic in toxics if isinstance(toxic, Latency) and toxic.is_distance]
    downstream = [distance for distance in distances if distance.stream == "downstream"]
    return len(downstream) == 1 and not any(fault.down for fault in before_db)
