"""Which requests Locust's page answers: those of its own pages and of programs on this machine.

Locust checks nothing: any page that a browser has open could start a load, read what came of it
(Locust answers ``Access-Control-Allow-Origin: *``), or name another address to upload to, with
a student's token in every request. Three headers tell such a request from the page's own:

    Host             the name in the address bar: another one means a name that was pointed here
                     (DNS rebinding)
    Origin, Referer  the page that sent the request; a browser lets no page change them
    Sec-Fetch-Site   the browser's own word for whether that page is this one

A program such as curl sends none of the last three and may do what its user may do anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.model.local_page import OWN_SITE, READS, lowered, origins, stranger

CHANGES = ("/swarm", "/stop", "/stats/reset")
"""What Locust's page asks for by POST. The rest that takes one (``/user``) sets any attribute of
a user's class, its host among them, and is not offered by this page."""


@dataclass(frozen=True)
class PageGuard:
    """Says why a request of the page is refused.

    Args:
        port: where the page is served, on 127.0.0.1.
        target: where users upload; the page may name no other.
    """

    port: int
    target: str

    def refusal(
        self, method: str, path: str, headers: Mapping[str, str], hosts: Collection[str] = ()
    ) -> str | None:
        """Why a request is refused, in a line; None if it is answered.

        Args:
            headers: by name, whatever its case.
            hosts: what the form that it sends names as the address to upload to.
        """
        given = lowered(headers)
        if reason := stranger(given, self.port):
            return reason
        if method in READS:
            return None
        if path not in CHANGES:
            return f"this page takes no {method} of {path}"
        if not self._from_itself(given):
            return "what changes something must come from this page"
        if set(hosts) - {self.target}:
            return f"users upload to {self.target} only: it is the replica that is up"
        return None

    def _from_itself(self, given: Mapping[str, str]) -> bool:
        """Whether neither the browser nor the page that it names says otherwise."""
        if given.get("sec-fetch-site", "same-origin") not in OWN_SITE:
            return False
        own = origins(self.port)
        referer = urlsplit(given.get("referer", own[0]))
        return f"{referer.scheme}://{referer.netloc}" in own
