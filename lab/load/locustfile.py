"""The generator: Locust's users, uploading when the schedule says, or doing what else a load's mix
has; and one who asks for health beside them.

Run only as a subprocess and never imported: Locust patches the standard library
of its process. With a plan (`lab.load.plan`) it offers a cell's load:

    spawn all users ─> all at the gate ─> t = 0 ─> all follow their schedules ─> exit 0

Locust's own ramps and shapes move once a second of wall time, which at speed 5 is a whole
ramp; so all users are spawned at once and wait for their own times. Without a plan it
is an ordinary locustfile for Locust's web page.

What users send goes through the geventhttpclient of a FastHttpUser, below its session: the
session's timeout limits a single read, not the answer; and a request that times out while it
is sent leaves its pool a connection short for ever, so the pool is emptied then. A health probe has
a connection of its own, as a load balancer's has, and does not wait for the one before it.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import time
import traceback
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import flask
import gevent
from gevent.pool import Group
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError
from locust import FastHttpUser, constant, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import Runner
from locust.stats import RequestStats, print_error_report, print_percentile_stats, print_stats
from locust.web import WebUI

from lab.load import schedule
from lab.load.audio import recordings
from lab.load.page import PageGuard
from lab.load.plan import LoadPlan, read_plan
from lab.load.session import Attempt, AttemptAnswer, LoadSession
from lab.load.uplink import PacedBody
from lab.load.upload import headers, multipart, outcome, worker_of
from lab.model.evidence import Cause
from lab.model.journeys import REQUESTS, Journey
from lab.model.load import REPORT_AUDIO
from lab.model.replica import REQUEST_HEADER, STUDENTS, UPLOAD_PATH, WORKER_HEADER
from lab.model.units import SizeRange

REPORT = 0.2
"""Wall seconds between two status files."""
KEEP_ALIVE = 1.0
"""Wall seconds for which an idle connection is trusted.

A server closes idle connections after a time of its own (uvicorn 5 s, nginx 75 s, by
default). A connection that closes while a request is on its way would look like a failure of
the service, and a POST must not be sent twice to find out (RFC 9110, 9.2.2); so an older
connection is replaced, and a younger one checked, before it is used.
"""
NO_FILES = (errno.EMFILE, errno.ENFILE)
"""Errors of a process, and of a machine, that has no file descriptor left for a connection."""
STOPPED_EARLY = 143
"""Exit code of a generator that was stopped (128 + SIGTERM)."""

_numbers = itertools.count()


class Uploader(FastHttpUser):
    """A student of the cell's load, who follows a schedule once and then stops."""

    abstract = True
    concurrency = 1
    load_session: ClassVar[LoadSession]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.number = next(_numbers)
        self.headers = {journey: headers(self.number, journey) for journey in Journey}
        self.pool = self.client.client.clientpool
        self.used = 0.0
        self.attempts = 0

    @task
    def live(self) -> None:
        session = self.load_session
        load, seed = session.load, session.plan.seed
        attempts = schedule.attempts(load, self.number, session.planned, seed)
        session.enter()
        planned = next(attempts, None)
        while planned is not None and not session.over(planned, planned):
            session.sleep_until(planned)
            if session.over(planned, sent := session.now()):
                break
            self.attempts += 1
            attempt = session.attempt(self.number, self.attempts, planned)
            session.begin(attempt, sent)
            answer = self.ask(attempt)
            ended = session.record(attempt, sent, answer)
            try:
                planned = attempts.send((ended, answer.error is None))
            except StopIteration:
                break
        session.leave()
        raise StopUser

    def ask(self, attempt: Attempt) -> AttemptAnswer:
        """Send a request and follow it to its last byte, or to the client's timeout."""
        session, body = self.load_session, attempt.body
        line = PacedBody(body, session.uplink, gevent.sleep) if session.uplink and body else None
        begun = time.monotonic()
        if begun - self.used > KEEP_ALIVE:
            self.pool.close()
        client = self.pool.get_client(session.plan.url)
        sent = body if line is None else line
        answer = _ask(client, attempt, sent, self.headers[attempt.journey], session.timeout)
        if not answer.status:
            self.pool.close()
        self.used = time.monotonic()
        _count(self.environment, attempt.journey, answer, self.used - begun)
        return answer if line is None else replace(answer, uplink_s=line.carried_s)


def _ask(
    client: HTTPClient, attempt: Attempt, body: Any, headers: dict[str, str], timeout: float
) -> AttemptAnswer:
    """What came of a request within so many wall seconds; of none that came, the client's word."""
    try:
        with gevent.Timeout(timeout):
            return _exchange(client, attempt, body, headers)
    except (gevent.Timeout, TimeoutError):
        return AttemptAnswer(Cause.CLIENT_TIMEOUT)
    except (OSError, HTTPParseError) as error:
        if getattr(error, "errno", None) in NO_FILES:
            _die(error)  # the generator's own limit must not look like the service's
        return AttemptAnswer(Cause.CONNECTION)


def _exchange(
    client: HTTPClient, attempt: Attempt, body: Any, headers: dict[str, str]
) -> AttemptAnswer:
    request = REQUESTS[attempt.journey]
    response = client.request(
        request.method,
        request.path,
        body=body,
        headers={**headers, REQUEST_HEADER: attempt.request},
    )
    content, status = response.read(), response.status_code
    kind = _header(response, "content-type")
    error, stored = outcome(status, kind, content, attempt.journey)
    return AttemptAnswer(
        error,
        status,
        stored,
        _header(response, "server-timing"),
        len(content),
        worker=worker_of(_header(response, WORKER_HEADER)),
    )


def _count(
    environment: Environment, journey: Journey, answer: AttemptAnswer, seconds: float
) -> None:
    """Count an answer in Locust's own statistics, whose summary ends the log."""
    environment.events.request.fire(  # type: ignore[no-untyped-call]
        request_type=REQUESTS[journey].method,
        name=REQUESTS[journey].path,
        response_time=seconds * 1000,
        response_length=answer.length,
        exception=answer.error,
        context={},
    )


def _probe_health(session: LoadSession, environment: Environment) -> None:
    """Ask for health whenever it is due, and follow each probe to its end."""
    under_way = Group()
    for number, planned in enumerate(schedule.probes(session.load), start=1):
        if not session.awaits_probe(planned):
            break
        probe = under_way.spawn(_probe, session, environment, session.probe(number, planned))
        probe.link_exception(_die_of)
    under_way.join()
    session.probed.set()


def _probe(session: LoadSession, environment: Environment, probe: Attempt) -> None:
    timeout, sent = session.load.probe_timeout / session.speed, session.now()
    session.begin(probe, sent)
    client = HTTPClient.from_url(
        session.plan.url, connection_timeout=timeout, network_timeout=timeout
    )
    begun = time.monotonic()
    try:
        answer = _ask(client, probe, probe.body, headers(probe.user, probe.journey), timeout)
    finally:
        client.close()
    _count(environment, probe.journey, answer, time.monotonic() - begun)
    session.record(probe, sent, answer)


def _header(response: Any, name: str) -> str:
    """A header's value; if it came more than once, its values joined by commas."""
    value = response.get(name, "")
    return value if isinstance(value, str) else ", ".join(value)


class StudentUser(FastHttpUser):
    """A student for Locust's web page: uploads, waits for the answer, thinks, uploads again.

    ``LAB_LOCUST_AUDIO`` is the size of the file (``200 KB`` or a range),
    ``LAB_LOCUST_SEED`` its seed, ``LAB_LOCUST_THINK`` the pause in wall seconds.
    """

    abstract = True
    wait_time = constant(float(os.environ.get("LAB_LOCUST_THINK", "0")))
    network_timeout = connection_timeout = 120.0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.headers = headers(next(_numbers) % STUDENTS)
        self.bodies = itertools.cycle(_web_bodies())

    @task
    def upload_recording(self) -> None:
        body: Any = next(self.bodies)  # Locust declares text, and sends bytes as they are
        with self.client.post(
            UPLOAD_PATH, data=body, headers=self.headers, catch_response=True
        ) as response:
            if response.status_code == 0:
                return  # no answer: Locust names the error itself
            kind = (response.headers or {}).get("content-type", "")
            error, _ = outcome(response.status_code, str(kind), response.content or b"")
            if error:
                response.failure(str(error))
            else:
                response.success()


def _guard_page(environment: Environment, web_ui: WebUI | None, **_: Any) -> None:
    """Have the page answer only what it should; without a page there is nothing to guard."""
    if web_ui is None or web_ui.app is None:
        return
    guard = PageGuard(web_ui.port, environment.host or "")

    def refuse() -> tuple[str, int] | None:
        asked = flask.request
        hosts = asked.form.getlist("host")
        reason = guard.refusal(asked.method, asked.path, dict(asked.headers), hosts)
        return (reason, 403) if reason else None

    web_ui.app.before_request(refuse)


@lru_cache(maxsize=1)
def _web_bodies() -> list[bytes]:
    audio = SizeRange.parse(os.environ.get("LAB_LOCUST_AUDIO", str(REPORT_AUDIO)))
    files = recordings(audio, int(os.environ.get("LAB_LOCUST_SEED", "1")))
    return [multipart(file, f"recording-{n:02d}.wav") for n, file in enumerate(files)]


def _conduct(session: LoadSession, environment: Environment, runner: Runner) -> None:
    """Start the load once all users wait, follow it to its end, and end the process."""
    environment.process_exit_code = STOPPED_EARLY
    while not session.all_waiting.wait(REPORT):
        _end_if_orphaned(session.plan)
    session.start()
    gevent.spawn(session.beat).link_exception(_die_of)
    gevent.spawn(_probe_health, session, environment).link_exception(_die_of)
    for ended in (session.all_finished, session.probed):
        while not ended.wait(REPORT):
            _end_if_orphaned(session.plan)
            session.obey()
            session.report(done=False)
    session.report(done=True)
    _end(runner.stats)


def _end(stats: RequestStats) -> None:
    """End now, with Locust's summary last in the log; its own way to an end takes 0.2 s."""
    print_stats(stats, current=False)
    print_percentile_stats(stats)
    print_error_report(stats)
    sys.stdout.flush()
    os._exit(0)


def _end_if_orphaned(plan: LoadPlan) -> None:
    if os.getppid() != plan.parent:
        _die(ChildProcessError("the process that drives the load is gone"))


def _die(error: BaseException) -> None:
    """End now, with the error last in the log: a defect must not look like a quiet service."""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


def _die_of(greenlet: Any) -> None:
    _die(greenlet.exception)


def _offer(plan: LoadPlan) -> None:
    """Make this locustfile the generator of a planned load."""
    session = LoadSession(plan)
    Uploader.abstract, Uploader.load_session = False, session
    Uploader.connection_timeout = Uploader.network_timeout = session.timeout

    def on_init(environment: Environment, runner: Runner, **_: Any) -> None:
        conductor = gevent.spawn(_conduct, session, environment, runner)
        conductor.link_exception(_die_of)

    def on_user_error(exception: BaseException, **_: Any) -> None:
        _die(exception)

    events.init.add_listener(on_init)  # type: ignore[no-untyped-call]
    events.user_error.add_listener(on_user_error)  # type: ignore[no-untyped-call]


if _plan := read_plan():
    _offer(_plan)
else:
    StudentUser.abstract = False
    events.init.add_listener(_guard_page)  # type: ignore[no-untyped-call]
