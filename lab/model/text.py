"""Text of others, made fit to be shown: in a terminal, on a page, in a message.

A spec, a log line, a stored run or a file's name may hold characters that steer a terminal, turn
the direction of what follows, or are not seen at all. They are shown as what they are, ``\\x1b``
or ``\\u202e``. Data (``--json``) keeps them, escaped as JSON does.
"""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and line feed
    "\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # a byte of a file's name that is no UTF-8
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
    "]"
)
"""Unicode's control and format characters, line separators, surrogates, and fillers of no width."""

_BREAK = re.compile(r"[ \t]*[\r\n\t]\s*")


class Styled(str):
    """Text whose control characters are the lab's own: colours, and the moves of a live line."""

    __slots__ = ()


def clean(text: str) -> str:
    """The text with what cannot be seen written out; line feeds and tabs stay."""
    return _UNSEEN.sub(lambda match: _written_out(ord(match[0])), text)


def clean_line(text: str) -> str:
    """The same on one line: a break, with the blanks around it, is one space."""
    if text.isascii() and text.isprintable():
        return text  # as nearly all is: a report has thousands
    return clean(_BREAK.sub(" ", text))


def _written_out(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
