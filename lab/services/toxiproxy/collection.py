"""All proxies of a server, and the changes that the API's bodies ask for, read strictly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from lab.services.toxiproxy.proxy import ApiError, Proxy
from lab.services.toxiproxy.toxics import STREAMS, TYPES, Toxic


class Collection:
    """Proxies by name. Every method is synchronous, so requests never interleave.

    Args:
        anywhere: whether they may listen on other addresses than this machine's loopback.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, anywhere: bool = False) -> None:
        self._loop = loop
        self._anywhere = anywhere
        self.proxies: dict[str, Proxy] = {}

    def get(self, name: str) -> Proxy:
        """The proxy of that name.

        Raises:
            ApiError: 404.
        """
        if name not in self.proxies:
            raise ApiError("proxy not found", 404)
        return self.proxies[name]

    def create(self, body: bytes) -> Proxy:
        """A new proxy from ``{name, listen, upstream, enabled}``.

        Raises:
            ApiError: 400 a bad body, 403 not on loopback, 409 the name is taken, 500 the address
                is taken.
        """
        proxy, enabled = self._read(read_json(body, dict), place="")
        if proxy.name in self.proxies:
            raise ApiError("proxy already exists", 409)
        return self._keep(proxy, enabled)

    def populate(self, body: bytes) -> tuple[list[Proxy], ApiError | None]:
        """Proxies from a list; an existing proxy with the same addresses is kept.

        What was done before an error stays done, and is returned with the error.
        """
        done: list[Proxy] = []
        try:
            entries = read_json(body, list)
            read = [
                self._read(entry, place=f" at proxy {number}")
                for number, entry in enumerate(entries, start=1)
            ]
            for proxy, enabled in read:
                done.append(self._add_or_replace(proxy, enabled))
        except ApiError as error:
            return done, error
        return done, None

    def update(self, name: str, body: bytes) -> Proxy:
        """Change a proxy's listen, upstream or enabled.

        Raises:
            ApiError: 404 no such proxy, 400 a bad body, 403 not on loopback, 500 a bad or taken
                address.
        """
        proxy = self.get(name)
        given = read_json(body, dict)
        proxy.update(
            listen=member(given, "listen", str, proxy.listen),
            upstream=member(given, "upstream", str, proxy.upstream),
            enabled=member(given, "enabled", bool, proxy.enabled),
        )
        return proxy

    def delete(self, name: str) -> None:
        """Stop and remove a proxy.

        Raises:
            ApiError: 404.
        """
        self.get(name).stop()
        del self.proxies[name]

    def add_toxic(self, name: str, body: bytes) -> Toxic:
        """A new toxic from ``{name, type, stream, toxicity, attributes}``.

        Raises:
            ApiError: 404 no such proxy, 400 a bad body, 409 the name is taken.
        """
        proxy = self.get(name)
        given = read_json(body, dict)
        toxic = _read_toxic(given)
        if any(toxic.name == other.name for other in proxy.all_toxics()):
            raise ApiError("toxic already exists", 409)
        toxic.attributes = _read_attributes(toxic, given)
        proxy.add_toxic(toxic)
        return toxic

    def update_toxic(self, name: str, toxic_name: str, body: bytes) -> Toxic:
        """Change a toxic's toxicity or attributes; those not given stay.

        Raises:
            ApiError: 404 no such proxy or toxic, 400 a bad body.
        """
        proxy = self.get(name)
        toxic = proxy.find(toxic_name)
        given = read_json(body, dict)
        toxicity = member(given, "toxicity", float, toxic.toxicity)
        toxic.attributes = _read_attributes(toxic, given)
        toxic.toxicity = toxicity
        proxy.toxic_updated(toxic)
        return toxic

    def remove_toxic(self, name: str, toxic_name: str) -> None:
        """Remove a toxic.

        Raises:
            ApiError: 404 no such proxy or toxic.
        """
        proxy = self.get(name)
        proxy.remove_toxic(proxy.find(toxic_name))

    def reset(self) -> None:
        """Enable every proxy and remove every toxic.

        Raises:
            ApiError: 500, a proxy's address was taken meanwhile.
        """
        for proxy in self.proxies.values():
            proxy.reset()

    def close(self) -> None:
        """Stop every proxy."""
        for proxy in self.proxies.values():
            proxy.stop()

    def _read(self, entry: Any, place: str) -> tuple[Proxy, bool]:
        if not isinstance(entry, dict):
            raise _bad_body(f"not an object{place}")
        name = member(entry, "name", str, "")
        upstream = member(entry, "upstream", str, "")
        for key, value in (("name", name), ("upstream", upstream)):
            if not value:
                raise ApiError(f"missing required field: {key}{place}", 400)
        listen = member(entry, "listen", str, "")
        proxy = Proxy(name, listen, upstream, self._loop, self._anywhere)
        return proxy, member(entry, "enabled", bool, True)

    def _add_or_replace(self, proxy: Proxy, enabled: bool) -> Proxy:
        existing = self.proxies.get(proxy.name)
        if existing is not None:
            if not existing.differs(proxy.listen, proxy.upstream):
                return existing
            existing.stop()
        return self._keep(proxy, enabled)

    def _keep(self, proxy: Proxy, enabled: bool) -> Proxy:
        if enabled:
            proxy.start()
        self.proxies[proxy.name] = proxy
        return proxy


def _read_toxic(given: dict[str, Any]) -> Toxic:
    kind = member(given, "type", str, "")
    stream = member(given, "stream", str, "downstream")
    toxicity = member(given, "toxicity", float, 1.0)
    name = member(given, "name", str, "") or f"{kind}_{stream}"
    if stream.lower() not in STREAMS:
        raise ApiError("stream was invalid, can be either upstream or downstream", 400)
    if kind not in TYPES:
        raise ApiError("invalid toxic type", 400)
    return Toxic(name, kind, stream, toxicity, dict.fromkeys(TYPES[kind].attributes, 0))


def _read_attributes(toxic: Toxic, given: dict[str, Any]) -> dict[str, int]:
    attributes = member(given, "attributes", dict, {})
    return {key: member(attributes, key, int, now) for key, now in toxic.attributes.items()}


_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def read_json(body: bytes, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """The JSON object or array at the head of a body; what follows it is ignored.

    Raises:
        ApiError: 400, not JSON or of another kind.
    """
    text = body.decode("utf-8", errors="replace").lstrip()
    if not text:
        raise _bad_body("EOF")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError as error:
        raise _bad_body(str(error)) from error
    if not isinstance(value, kind):
        raise _bad_body(f"{_KINDS[type(value)]} where {_KINDS[kind]} should be")
    return value


def member(given: Mapping[str, Any], key: str, kind: type[Any], default: Any) -> Any:
    """A member of an object, or ``default`` where it is absent or null.

    Raises:
        ApiError: 400, of another kind than ``kind`` (a float takes whole numbers too).
    """
    value = given.get(key)
    if value is None:
        return default
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    wanted = "a whole number" if kind is int else _KINDS[kind]
    raise _bad_body(f"'{key}' is {_KINDS[type(value)]}, not {wanted}")


def _bad_body(why: str) -> ApiError:
    return ApiError(f"bad request body: {why}", 400)
