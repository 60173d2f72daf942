"""One call of Toxiproxy's API at a time, each with a timeout and a status that is checked.

The only importer of toxiproxy-python (0.1.1), whose shortcomings end here:

* its ``host`` and ``port`` are attributes of a class, so a process knows one server: they
  are set under a lock before each call;
* its ``Proxy`` and ``Toxic`` objects pass no timeout on, so a server that hangs hangs the
  caller: calls go through its ``APIConsumer``, which hands keyword arguments to requests;
* it raises on 400, 404 and 409 only: every other status that is not the expected one, and
  an answer that is not JSON, is an error here;
* it cannot update a toxic and its ``populate`` recreates proxies: neither is used;
* requests takes ``HTTP_PROXY`` from the environment: it is told not to.
"""

from __future__ import annotations

import threading
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from lab.errors import InjectionError

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
