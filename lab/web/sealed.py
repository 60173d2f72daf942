"""A page of the lab's as a document that its browser runs no other script of than its own.

A report is one file with its styles and scripts inside. Served, it gets a nonce, which no text in
it can know, and what its elements say of their own style becomes a rule of a style sheet: so
nothing that is inline runs or applies by itself.
"""

from __future__ import annotations

import re
import secrets

_BLOCKS = re.compile(r"(<(?:script|style)\b.*?</(?:script|style)>)", re.DOTALL)
_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_STYLED = re.compile(r' style="([^"<>]*)"')


def sealed(html: str) -> tuple[str, str]:
    """The page with a nonce on its scripts and styles, and the policy that goes with it.

    Args:
        html: as a template of the lab's rendered it, everything of others escaped.
    """
    nonce = secrets.token_urlsafe(16)
    rules: dict[str, int] = {}

    def ruled(match: re.Match[str]) -> str:
        return f' data-style="{rules.setdefault(match[1], len(rules))}"'

    parts = _BLOCKS.split(html)
    for index, part in enumerate(parts):
        if index % 2:
            parts[index] = re.sub(r"^<(script|style)\b", rf'<\1 nonce="{nonce}"', part)
        else:
            parts[index] = _TAG.sub(lambda tag: _STYLED.sub(ruled, tag[0]), part)
    sheet = "".join(f'[data-style="{n}"]{{{rule}}}' for rule, n in rules.items())
    page = "".join(parts).replace("</head>", f'<style nonce="{nonce}">{sheet}</style></head>', 1)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy
