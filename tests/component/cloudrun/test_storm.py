"""Each request gets exactly one answer, whatever happens to clients and instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.component.cloudrun.permitted import needs_cgroups
from tests.component.cloudrun.storm import kind_of, run

REQUESTS = 200


@needs_cgroups
def test_each_request_gets_one_answer_or_its_client_left(tmp_path: Path) -> None:
    after = run("process", REQUESTS, tmp_path)
    assert after.wrong(REQUESTS) == []
    assert min(after.outcomes["200"], after.outcomes["left"]) > 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "none"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n40", "200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n41", "another's"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n4", "cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n40HTTP/1.1 503", "more than one"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "503"),
    ],
)
def test_an_answer_is_told_by_all_its_bytes(answer: bytes, kind: str) -> None:
    assert kind_of(answer, 40) == kind
