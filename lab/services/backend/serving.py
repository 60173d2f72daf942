"""All that a worker imports until it serves: the application, and what uvicorn chooses by name.

Whoever forks workers imports this first, so that none has anything left to import.
"""

from __future__ import annotations

from importlib import import_module

for _module in (
    "lab.services.backend.main",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
):
    import_module(_module)
