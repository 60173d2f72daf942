"""A small asyncio server that speaks Toxiproxy's API and proxies TCP as Toxiproxy does.

    client ──> Proxy ── Link (upstream):   chunk ─> stage ─> stage ──> upstream
           <──       ── Link (downstream):        <─ stage <─ stage <── chunk

It stands in for ``toxiproxy-server`` (written against v2.12.0) where that is not
installed. A toxic is a *stage* on every link of its direction. Differences from the
original, all where a lab needs certainty:

* a toxic that does not apply to a link (``toxicity``) has no effect on it at all: the
  original sets SO_LINGER, and closes on the removal of ``timeout``, regardless;
* ``reset_peer`` resets a connection that was open before it was added, too;
* adding or updating a toxic never lets the chunk in hand pass early, and an update draws
  the toxicity of only that toxic again, not its neighbour's;
* proxies listen on loopback only, and a missing host means loopback, unless the server was
  started with ``-anywhere``; the API answers no request that a page in a browser may have sent
  (`api.refusal`);
* a negative ``rate`` and a slicer without a size, which end the original's process, are
  a standstill and slices of one byte.
"""
