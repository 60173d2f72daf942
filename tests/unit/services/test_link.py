"""A connection's end before both links are there."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from lab.services.toxiproxy.link import End


class Reads:
    """A link that takes down what it is given."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def receive(self, data: bytes) -> None:
        self.told.append(data)

    def end(self) -> None:
        self.told.append("end")


@pytest.mark.parametrize("ended", [False, True])
def test_what_comes_before_the_links_is_kept_for_them(ended: bool) -> None:
    end, reads = End(), Reads()
    transport: Any = Mock()
    end.connection_made(transport)
    end.data_received(b"a")
    end.data_received(b"b")
    if ended:
        assert end.eof_received() is True
    links: Any = reads
    end.join(reads=links, writes=Mock(), when_lost=lambda: None)
    end.data_received(b"c")
    assert reads.told == [b"a", b"b", *(["end"] if ended else []), b"c"]
    transport.resume_reading.assert_called_once()
