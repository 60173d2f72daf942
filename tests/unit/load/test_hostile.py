"""The table of hostile requests: every row says what is right, in the lab's own words."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from lab.model.evidence import Cause
from validation.hostile import SERVERS, Hostile, rows
from validation.requests import said

CAUSES = "|".join(Cause)
ANSWER = re.compile(rf"(100|200 ok|[45]\d\d ({CAUSES}))(\+(200 ok))*")
WITHOUT = {"closed", "open", "-", "no status line"}


def test_no_two_rows_have_one_name() -> None:
    names = Counter(each.name for each in rows())
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= 290


@pytest.mark.parametrize("server", SERVERS)
def test_each_row_says_what_a_server_may_answer_and_never_500(server: str) -> None:
    for each in rows():
        for answer in each.allowed(server):
            assert answer in WITHOUT or ANSWER.fullmatch(answer), (each.name, answer)
            assert "500" not in answer


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", ""),
        (b"<html>", "no status line"),
        (b"HTTP/1.1 400 Bad\r\n\r\n", "400 bad_upload"),
        (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}", "100+200 ok"),
        (b"HTTP/1.1 500 X\r\nContent-Type: text/html\r\n\r\n<html>", "500 proxy_error"),
        (
            b"HTTP/1.1 503 X\r\nContent-Type: application/problem+json\r\n\r\n"
            b'{"cause": "overloaded"}',
            "503 overloaded",
        ),
    ],
)
def test_what_a_connection_has_said(data: bytes, answer: str) -> None:
    assert said(data) == answer


def test_alternatives_are_told_apart() -> None:
    each = Hostile("a", (), "200 ok|400 bad_upload", "open", "-")
    assert each.allowed("nginx") == {"200 ok", "400 bad_upload"}
    assert each.allowed("uvicorn") == {"open"}
