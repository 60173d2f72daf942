"""The application: ``uvicorn lab.services.backend.main:create_app --factory --workers N``.

uvicorn's defaults that matter and are kept: one worker, a backlog of 2048, no limit on
concurrency. With ``--workers`` a parent restarts a worker that dies, or whose answering thread
is silent for 5 s (a blocked event loop does not silence it).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI, Request
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import Response

from lab.model.journeys import OF_PATH, Journey
from lab.model.replica import UPLOAD_PATH
from lab.services.backend.api import assessments, conversion, progress, students
from lab.services.backend.core import problems
from lab.services.backend.core.evidence import EvidenceWriter, Gauges, Heartbeat, MeteredLoop
from lab.services.backend.core.leak import DeliberateLeak
from lab.services.backend.core.middleware import (
    DRAIN_S,
    BackpressureMiddleware,
    BodyMiddleware,
    RateLimiter,
    ServerTimingMiddleware,
    by_address,
    by_user,
)
from lab.services.backend.core.problems import Problem, problem
from lab.services.backend.core.thread_pool import ThreadPools
from lab.services.backend.core.uploads import UploadLog
from lab.services.backend.database import Database
from lab.services.backend.services.audio_upload import AudioUploader
from lab.services.backend.services.conversion import AudioConverter
from lab.services.backend.services.speech import SpeechClient
from lab.services.backend.settings import BackendSettings

ROUTERS = (students.router, assessments.router, conversion.router, progress.router)

RECORDED = {path: journey for path, journey in OF_PATH.items() if journey is not Journey.HEALTH}
"""What students ask for, by its path; a worker records each."""


def create_app(settings: BackendSettings | None = None) -> FastAPI:
    """The application, from the environment or from settings given (in tests)."""
    settings = settings or BackendSettings.from_env()
    gauges, uploads = Gauges(), UploadLog()
    pools = ThreadPools(settings.knobs)
    database = Database(settings, gauges)
    leak = DeliberateLeak(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        pools.install(loop)
        heartbeat = Heartbeat(loop)
        evidence = evidence_of(settings, database, gauges, uploads, heartbeat, loop)
        if evidence and isinstance(loop, MeteredLoop):
            loop.when_serving(evidence.start)  # so that a worker's first line means that it serves
        elif evidence:
            evidence.start()
        yield
        heartbeat.stop()
        if evidence:
            evidence.close()
        pools.close()
        leak.close()
        database.dispose()

    app = FastAPI(title="Student recordings", lifespan=lifespan)
    app.state.knobs = settings.knobs
    app.state.database = database
    app.state.uploader = AudioUploader(settings, pools, gauges)
    app.state.speech = SpeechClient(settings, pools, gauges)
    app.state.converter = AudioConverter(settings, pools, gauges)
    app.state.leak = leak
    app.state.check_upload_limit = upload_limit(settings)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    add_health(app, database, pools, gauges)
    add_global_rate_limit(app, settings)
    # The last middleware added is the outermost: timings surround the limits.
    app.add_middleware(
        BackpressureMiddleware,
        path=UPLOAD_PATH,
        limit=settings.knobs.max_inflight_uploads,
        gauges=gauges,
    )
    app.add_middleware(
        BodyMiddleware,
        limit=settings.knobs.backend_body,
        drain_s=DRAIN_S if settings.knobs.refuse == "after_body" else 0.0,
    )
    app.add_middleware(ServerTimingMiddleware, journeys=RECORDED, uploads=uploads)
    return app


def add_global_rate_limit(app: FastAPI, settings: BackendSettings) -> None:
    """The report's middleware: a limit on the requests a minute from an address."""
    limit = settings.knobs.global_rate_limit
    if limit is None:
        return
    global_rate_limiter = RateLimiter(by_address(settings.knobs))
    window = settings.wall(limit.per)

    @app.middleware("http")
    async def global_rate_limit_middleware(
        request: Request, call_next: RequestResponseEndpoint
    ) -> Response:
        allowed, info = await global_rate_limiter.check_rate_limit(
            request, max_requests=limit.count, window_seconds=window
        )
        if not allowed:
            return problem(
                "rate_limited",
                f"more than {limit} from one address",
                headers={"Retry-After": str(info["retry_after"])},
            )
        return await call_next(request)


def upload_limit(settings: BackendSettings) -> Callable[[Request], Awaitable[None]]:
    """The report's ``@limiter.limit("10/minute")`` on uploads, by user; or no limit."""
    limit = settings.knobs.upload_rate_limit
    limiter = RateLimiter(by_user)

    async def check(request: Request) -> None:
        if limit is None:
            return
        allowed, info = await limiter.check_rate_limit(
            request, max_requests=limit.count, window_seconds=settings.wall(limit.per)
        )
        if not allowed:
            raise Problem(
                "rate_limited",
                f"more than {limit} uploads of one user",
                headers={"Retry-After": str(info["retry_after"])},
            )

    return check


def add_health(app: FastAPI, database: Database, pools: ThreadPools, gauges: Gauges) -> None:
    """GET /health with the pool's figures, as the report recommends; it makes no query."""

    @app.get("/health")
    async def health_check() -> dict[str, Any]:
        return {
            "status": "ok",
            "database": database.figures(),
            "threads": {
                **pools.sizes,
                "busy": gauges.threads_busy,
                "queued": gauges.threads_queued,
            },
            "uploads_inflight": gauges.inflight,
        }


def evidence_of(
    settings: BackendSettings,
    database: Database,
    gauges: Gauges,
    uploads: UploadLog,
    heartbeat: Heartbeat,
    loop: asyncio.AbstractEventLoop,
) -> EvidenceWriter | None:
    """This worker's evidence, not started yet; None if there is no folder for it.

    To be called in the event loop: anyio's limiter is the loop's.
    """
    if settings.evidence is None:
        return None
    limiter = current_default_thread_limiter()

    def read() -> dict[str, Any]:
        anyio_threads = limiter.statistics()
        return {
            **database.figures(),
            "threads_busy": gauges.threads_busy,
            "threads_queued": gauges.threads_queued,
            "inflight": gauges.inflight,
            "loop_lag": heartbeat.lag(),
            "loop_busy_s": loop.meter.busy_s() if isinstance(loop, MeteredLoop) else None,
            "gcs_attempts": gauges.gcs_attempts,
            "gcs_bytes": gauges.gcs_bytes,
            "anyio_busy": anyio_threads.borrowed_tokens,
            "anyio_queued": anyio_threads.tasks_waiting,
            "speech_busy": gauges.speech_busy,
            "speech_queued": gauges.speech_queued,
            "audio_busy": gauges.audio_busy,
            "audio_queued": gauges.audio_queued,
            "inside": uploads.inside,
        }

    return EvidenceWriter(settings.evidence, read, uploads)
