"""Who may ask the live server, and what a browser may do with a report that it answers."""

from __future__ import annotations

import re

import pytest

from lab.web.guard import POLICY, refusal
from lab.web.sealed import sealed

OWN = "http://127.0.0.1:8088"
SERVED = "this page is served as 127.0.0.1:8088 and localhost:8088 only"
ELSEWHERE = "a page of another origin may not ask this one"
READS_ONLY = "this page changes nothing: it takes GET and HEAD only"
LED_HERE = "another page led here; type the address, or open it from a terminal"

CASES = [
    ("GET", {}, None),
    ("HEAD", {}, None),
    ("GET", {"Host": "localhost:8088", "Origin": "http://localhost:8088"}, None),
    ("GET", {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, None),
    ("GET", {"Sec-Fetch-Site": "none"}, None),
    # a name that was pointed at this machine, or another port of it
    ("GET", {"Host": "example.org:8088"}, SERVED),
    ("GET", {"Host": "127.0.0.1"}, SERVED),
    ("GET", {"Host": "127.0.0.1:8089"}, SERVED),
    ("GET", {"Host": "localhost.example.org:8088"}, SERVED),
    ("GET", {"Host": "[::1]:8088"}, SERVED),
    ("GET", {"Host": ""}, SERVED),
    # another page
    ("GET", {"Origin": "https://example.org"}, ELSEWHERE),
    ("GET", {"Origin": "null"}, ELSEWHERE),
    ("GET", {"Origin": "http://127.0.0.1:8089"}, ELSEWHERE),
    ("GET", {"Origin": "https://127.0.0.1:8088"}, ELSEWHERE),
    ("OPTIONS", {"Origin": "https://example.org"}, ELSEWHERE),
    ("GET", {"Sec-Fetch-Site": "cross-site"}, LED_HERE),
    ("GET", {"sec-fetch-site": "same-site"}, LED_HERE),
    # what would change something
    ("POST", {}, READS_ONLY),
    ("POST", {"Origin": OWN}, READS_ONLY),
    ("POST", {"Origin": "https://example.org"}, ELSEWHERE),
    ("PUT", {}, READS_ONLY),
    ("DELETE", {}, READS_ONLY),
    ("OPTIONS", {}, READS_ONLY),
    ("TRACE", {}, READS_ONLY),
]


@pytest.mark.parametrize(("method", "headers", "reason"), CASES)
def test_a_request_is_answered_or_refused_with_its_reason(
    method: str, headers: dict[str, str], reason: str | None
) -> None:
    assert refusal(method, {"Host": "127.0.0.1:8088", **headers}, 8088) == reason


def test_a_request_without_a_host_is_refused() -> None:
    assert refusal("GET", {}, 8088) == SERVED


def test_the_policy_lets_nothing_inline_run_and_no_page_frame_this_one() -> None:
    assert "unsafe" not in POLICY
    assert {"default-src 'none'", "frame-ancestors 'none'", "script-src 'self'"} <= set(
        POLICY.split("; ")
    )


REPORT = (
    '<html><head><style>p {}</style></head><body><p style="width:12%">a style="x"&gt;</p>'
    '<p style="width:12%"></p><p style="top:0"></p><script>"<p style=\\"y\\">"</script>'
    "</body></html>"
)


def test_a_report_runs_its_own_script_and_has_no_style_in_an_element() -> None:
    html, policy = sealed(REPORT)
    [nonce] = set(re.findall(r"'nonce-([\w-]+)'", policy))
    assert html.count(f'nonce="{nonce}"') == 3
    assert f'<script nonce="{nonce}">"<p style=\\"y\\">"</script>' in html
    outside = re.sub(r"<(script|style).*?</(script|style)>", "", html)
    assert outside.count(' data-style="0"') == 2
    assert outside.count(' data-style="1"') == 1
    assert outside.count(' style="') == 1  # in a text, where it is none
    assert '>[data-style="0"]{width:12%}[data-style="1"]{top:0}</style></head>' in html
    assert "unsafe" not in policy


def test_each_answer_has_a_nonce_of_its_own() -> None:
    assert sealed(REPORT)[1] != sealed(REPORT)[1]
