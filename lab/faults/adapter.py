"""Arming faults over Toxiproxy's API, believing nothing that was not read back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lab.errors import InjectionError
from lab.faults.client import Client
from lab.model.fault import Armed, Fault, beyond
from lab.model.knobs import Knobs
from lab.model.observation import Injected

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
            base_s: to take off the distance to the database, as `lab.faults.base` has it.

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
