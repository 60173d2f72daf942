"""``python -m lab.services.backend``: the report's start-up, with its worker count.

HOST and PORT are read from the environment, as the report's ``main.py`` reads PORT.

Two defaults of uvicorn are changed. ``proxy_headers`` would replace a peer on 127.0.0.1 by
X-Forwarded-For, so that the meaning of ``rate_limit_key: peer`` would depend on whether nginx
runs on the same host. ``loop`` is asyncio's own loop, which is the default if uvloop is not
installed, with a selector that counts how long it waits.
"""

from __future__ import annotations

import os

import uvicorn

from lab.services.backend.settings import BackendSettings


def main() -> None:
    """Run uvicorn as the knobs say."""
    settings = BackendSettings.from_env()
    uvicorn.run(
        "lab.services.backend.main:create_app",
        factory=True,
        host=os.getenv("HOST", "0.0.0.0"),  # noqa: S104 - the report's own default; the lab sets HOST
        port=int(os.getenv("PORT", "8080")),
        workers=settings.knobs.workers,
        loop="lab.services.backend.core.evidence:MeteredLoop",
        timeout_keep_alive=settings.wall(settings.knobs.keep_alive),  # type: ignore[arg-type] # any number serves
        proxy_headers=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
