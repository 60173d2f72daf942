"""The steps of an upload whose session is held, or whose queries run in anyio's threads.

    db_call: blocking    loop:  check out, auth ─> storage ─> write, check in          (held)
    db_call: threadpool  loop ─> anyio: check out, auth, release, check in ─> loop ─> storage ─┐
                         loop <─ anyio: check out, write, check in <─ loop <───────────────────┘

A checkout blocks its thread. In the event loop that is the worker: nobody returns a connection
meanwhile, so it stands for all of ``pool_timeout``. A token of anyio's is back when the coroutine
runs again, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from lab.capacity.engine import Engine
from lab.capacity.parts import NO_CONNECTION, OK, SLOTS, SimulatedUpload, SimulatedWorker


@dataclass(frozen=True)
class Job:
    """What is done in one of anyio's threads: seconds of queries, and what is with its connection.

    ``last`` is one after which the loop makes the storage call, or answers.
    """

    took: float
    checkout: bool = False
    checkin: bool = False
    then: str = "job"


class JobEngine(Engine):
    """A network whose connections are shared among the uploads of a worker."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        database = self.network.database
        if not database.threads:
            self._begun, self._written = self._auth_in_loop, self._write_in_loop
            return
        self._begun, self._written = self._request_job, self._request_job
        held = database.held
        leak = Job(0.0)  # asked in a thread, whether there is one or not
        auth: tuple[Job, ...]
        if held:
            auth = (Job(0.0, checkout=True), Job(database.auth, then="store"))
        else:
            took = database.auth + database.release
            auth = (Job(took, checkout=True, checkin=True, then="store"),)
        write = Job(database.write, checkout=not held, checkin=not held, then="answer")
        self._jobs = (leak, *auth, write)

    # Queries in the event loop, the session held.

    def _auth_in_loop(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        database, pool = self.network.database, worker.pool
        if pool.idle:
            pool.idle -= 1
            t += database.checkout
        elif pool.opened < pool.limit:
            t = self._open(t, worker, upload)
        else:
            upload.pool = database.pool_timeout
            upload.code = NO_CONNECTION
            t += database.pool_timeout
        if upload.code != OK:
            return self._end(t, worker, upload)
        upload.connected = True
        return self._store(t + database.auth, worker, upload)

    def _write_in_loop(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        t += self.network.database.write
        self._give_back(t, worker, upload)
        return self._end(t, worker, upload)

    # The pool, and the database's slots.

    def _open(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        """Open a connection, unless the database has none left; returns when that is known."""
        database = self.network.database
        if self.slots >= database.slots:
            upload.code = SLOTS
            return t + database.connect
        self.slots += 1
        worker.pool.opened += 1
        return t + database.connect

    def _give_back(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> None:
        """To who waits longest; else it is kept, or closed where as many are kept already."""
        pool, upload.connected = worker.pool, False
        while pool.waiting:
            asked, waiting, go_on = pool.waiting.popleft()
            if waiting.asked == asked:  # it has not given up
                waiting.pool += t - asked
                go_on(t + self.network.database.checkout)
                return
        if pool.idle < pool.size:
            pool.idle += 1
        else:
            pool.opened -= 1
            self.slots -= 1

    # Queries in anyio's threads.

    def _request_job(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        """In the loop: the upload's next job asks for a thread."""
        if upload.token:
            upload.token = False
            self._free_token(t, worker)
        if upload.code != OK:
            if upload.connected:
                self._give_back(t, worker, upload)
            return self._end(t, worker, upload)
        before = self._jobs[upload.job - 1].then if upload.job else "job"
        if before == "store" and not upload.storage:
            return self._store(t, worker, upload)
        if before == "answer":
            if upload.connected:
                self._give_back(t, worker, upload)
            return self._end(t, worker, upload)
        upload.asked = t
        self._at(t, self._ask_for_thread, upload)
        return t

    def _ask_for_thread(self, t: float, upload: SimulatedUpload) -> None:
        worker = upload.worker
        assert worker is not None  # noqa: S101 - it is inside one
        if worker.tokens:
            worker.tokens -= 1
            self._start(t, worker, upload)
        else:
            worker.queued.append(upload)

    def _free_token(self, t: float, worker: SimulatedWorker) -> None:
        if worker.queued:
            self._at(t, self._start_next, worker)
        else:
            worker.tokens += 1

    def _start_next(self, t: float, worker: SimulatedWorker) -> None:
        if not worker.queued:
            worker.tokens += 1
            return
        upload = worker.queued.popleft()
        upload.anyio += t - upload.asked
        self._start(t, worker, upload)

    def _start(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> None:
        """A job begins in its thread."""
        upload.token = True
        job = self._jobs[upload.job]
        if not job.checkout:
            self._at(t + job.took, self._done, upload)
            return
        pool, database = worker.pool, self.network.database
        go_on = partial(self._connected, upload, job)
        if pool.idle:
            pool.idle -= 1
            go_on(t + database.checkout)
        elif pool.opened < pool.limit:
            t = self._open(t, worker, upload)
            if upload.code == OK:
                go_on(t)
            else:
                self._at(t, self._done, upload)
        else:
            upload.asked = t
            pool.waiting.append((t, upload, go_on))
            self._at(t + database.pool_timeout, self._give_up_pool, (t, upload))

    def _connected(self, upload: SimulatedUpload, job: Job, t: float) -> None:
        upload.connected, upload.asked = True, -1.0
        self._at(t + job.took, self._done, upload)

    def _give_up_pool(self, t: float, about: tuple[float, SimulatedUpload]) -> None:
        asked, upload = about
        if upload.asked != asked or upload.connected:
            return
        upload.asked = -1.0
        upload.pool += t - asked
        upload.code = NO_CONNECTION
        self._done(t, upload)

    def _done(self, t: float, upload: SimulatedUpload) -> None:
        """A job has ended; its coroutine goes on in the loop's next turn."""
        worker = upload.worker
        assert worker is not None  # noqa: S101 - it is inside one
        if self._jobs[upload.job].checkin and upload.connected:
            self._give_back(t, worker, upload)
        upload.job += 1
        worker.ready.append((self._request_job, upload))
        if worker.idle:
            worker.idle = False
            self._loop(t, worker)
