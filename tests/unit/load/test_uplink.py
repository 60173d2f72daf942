from __future__ import annotations

import time

import pytest

from lab.load.uplink import PIECE, PacedBody

BODY = bytes(range(256)) * 40


def drained(body: PacedBody) -> tuple[bytes, int, float]:
    """All of a body, the pieces it came in, and the seconds that it took."""
    begun, pieces = time.monotonic(), []
    while piece := body.read():
        pieces.append(bytes(piece))
    return b"".join(pieces), len(pieces), time.monotonic() - begun


@pytest.mark.parametrize("seconds", [0.02, 0.2, 0.5])
def test_a_body_leaves_whole_and_at_the_pace_of_its_line(seconds: float) -> None:
    body = PacedBody(BODY, len(BODY) / seconds, time.sleep)
    assert len(body) == len(BODY)
    whole, pieces, took = drained(body)
    assert whole == BODY
    assert took == pytest.approx(seconds, rel=0.1, abs=0.005)
    assert body.carried_s == pytest.approx(took, abs=0.005)
    assert pieces <= seconds / PIECE + 2


def test_a_line_slower_than_a_byte_a_piece_sends_byte_by_byte() -> None:
    whole, pieces, took = drained(PacedBody(b"abcd", 10, time.sleep))
    assert (whole, pieces) == (b"abcd", 4)
    assert took >= 0.4


def test_a_line_is_busy_from_its_first_byte_to_its_last() -> None:
    body = PacedBody(BODY, 1e5, time.sleep)
    assert body.carried_s == 0
    body.read()
    so_far = body.carried_s
    assert 0 < so_far < body.carried_s
    while body.read():
        pass
    ended = body.carried_s
    time.sleep(0.01)
    assert body.carried_s == ended
