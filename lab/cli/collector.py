"""Posts a run to a collector: OTLP over HTTP, as JSON, batch by batch.

As the protocol asks for, an answer of 429, 502, 503 or 504 is followed by another try, after what
its ``Retry-After`` says; any other than 200 ends the export. How many spans a collector did not
take it says in an answer of 200.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

import requests

from lab.cli.options import print_message
from lab.errors import MachineError, UsageError
from lab.report.format import plural

PATH = "/v1/traces"
AGAIN = frozenset({429, 502, 503, 504})
TRIES = 5
MAX_PAUSE_S = 30.0
TIMEOUT_S = (5.0, 30.0)
"""To connect, and to be answered."""

PROGRESS_S = 5.0
"""Wall seconds between two messages about how far an export is."""

MAX_QUOTE = 200
"""Characters of an answer that a message quotes."""


def post(endpoint: str, batches: Iterable[tuple[bytes, int]]) -> str:
    """Post every batch; a sentence that says what was sent.

    Args:
        endpoint: where the collector listens, as ``http://127.0.0.1:4318``.
        batches: the body of each request, and how many spans it has.

    Raises:
        UsageError: the endpoint is no address of HTTP.
        MachineError: nobody listens there, or not all was taken.
    """
    url = _url(endpoint)
    sent = requests_made = 0
    told = time.monotonic()
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor a password of the user's is meant
        for body, spans in batches:
            _post(session, url, body, sent)
            sent, requests_made = sent + spans, requests_made + 1
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                print_message(f"sent {plural(sent, 'span')} so far")
    return f"sent {plural(sent, 'span')} in {plural(requests_made, 'request')} to {url}"


def _url(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        known = False
    if not known:
        what = f"--endpoint: '{endpoint[:100]}' is no address of HTTP"
        raise UsageError(what, "write it as http://127.0.0.1:4318")
    base = endpoint.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def _post(session: requests.Session, url: str, body: bytes, sent: int) -> None:
    headers = {"Content-Type": "application/json"}
    for again in range(TRIES, -1, -1):
        try:
            answer = session.post(
                url, data=body, headers=headers, timeout=TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException as error:
            raise MachineError(
                f"{url}: {_reason(error)}{_so_far(sent)}",
                "start a collector that takes OTLP over HTTP, or name another with --endpoint",
            ) from error
        if answer.status_code not in AGAIN or not again:
            break
        time.sleep(_pause(answer))
    if answer.status_code != 200:
        quoted = " ".join(answer.text[:MAX_QUOTE].split())
        raise MachineError(
            f"{url} answered {answer.status_code}{f': {quoted}' if quoted else ''}{_so_far(sent)}",
            "see whether it takes OTLP as JSON over HTTP, and what its log says",
        )
    _check_taken(answer, url)


def _pause(answer: requests.Response) -> float:
    """Wall seconds until the next try."""
    with suppress(ValueError):
        return min(max(float(answer.headers.get("Retry-After", "1")), 0.0), MAX_PAUSE_S)
    return 1.0


def _check_taken(answer: requests.Response, url: str) -> None:
    """Raise where a collector says that it did not take all."""
    rejected, why = 0, ""
    with suppress(ValueError, TypeError, AttributeError):
        partial = answer.json().get("partialSuccess") or {}
        rejected, why = (
            int(partial.get("rejectedSpans") or 0),
            str(partial.get("errorMessage") or ""),
        )
    if rejected:
        what = f"{url} did not take {plural(rejected, 'span')}"
        raise MachineError(
            f"{what}{f': {why[:MAX_QUOTE]}' if why else ''}", "see what its log says"
        )


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "nobody listens there, or the connection was cut"
    return f"the request failed ({type(error).__name__})"


def _so_far(sent: int) -> str:
    return f", after {plural(sent, 'span')} were sent" if sent else ""
