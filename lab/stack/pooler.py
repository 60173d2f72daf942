"""PgBouncer before Postgres: its settings, its figures, and the way that leads to it.

    backend ──> :db proxy ──25 ms──> PgBouncer ──> Postgres        pooler: session | transaction
                          ──25 ms────────────────> Postgres        pooler: off

It stands beside the database, as Supabase's does, so the distance lies before it. `Pooler` is the
embedded stack's; `settings`, `Console` and `lead_to` are what both stacks know of it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import requests

from lab import paths
from lab.errors import MissingComponent, PartFailed
from lab.model.environment import child_environment
from lab.model.knobs import Knobs
from lab.model.pooler import PoolerState
from lab.model.replica import APP_ROLE, DATABASE, POOLER, POOLER_PATIENCE_S, SUPERUSER
from lab.stack import nginx
from lab.stack.files import make_folder, write_private
from lab.stack.monitor import Monitor
from lab.stack.ports import HOST, http
from lab.stack.postgres import Postgres
from lab.stack.process import Part, Process

PORT = 6432
"""Where it listens in a container: its own default."""

PROXY = "db"
"""The proxy of Toxiproxy that stands before it."""

CONSOLE = "pgbouncer"
"""The database that is its admin console."""

REMEDY = "`apt install pgbouncer` (Debian), or its like elsewhere"

MAX_CLIENTS = 10_000
"""``max_client_conn``: more than the pools of all workers have, so that it refuses none of them."""

LIFETIME_S, IDLE_S, CHECK_S, RETRY_S = 3600, 600, 30, 15
"""Real-world seconds, PgBouncer's own defaults: a server connection's greatest age, the longest
that it stays unused, and unused before it is tried at its next use; between two log-ins after one
that failed. How long a log-in may take is no wait, and is kept in whole seconds: it stays."""

ASK_S = 5.0


def program() -> str:
    """PgBouncer's binary.

    Raises:
        MissingComponent: it is not on PATH.
    """
    # Debian has it where only root's PATH leads.
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if found is None:
        raise MissingComponent("pgbouncer, which knob pooler asks for, is not on PATH", REMEDY)
    return found


def version() -> str:
    """What it says of itself: ``PgBouncer 1.18.0``.

    Raises:
        MissingComponent: as `program`.
        OSError: it cannot be started.
        subprocess.SubprocessError: it failed.
    """
    done = subprocess.run(  # noqa: S603 - the replica's own part
        [program(), "--version"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=ASK_S,
        check=True,
    )
    return done.stdout.partition("\n")[0].strip()


def versions() -> dict[str, str]:
    """Its version, for the stamp on a result; nothing where it is not here."""
    try:
        return {POOLER: version().removeprefix("PgBouncer ")}
    except (MissingComponent, OSError, subprocess.SubprocessError):
        return {}


def settings(knobs: Knobs) -> dict[str, str]:
    """What follows from the knobs for ``compose/pooler/pgbouncer.ini``, by variable."""
    seconds = {
        "LAB_POOLER_WAIT_S": POOLER_PATIENCE_S,
        "LAB_POOLER_LIFETIME_S": LIFETIME_S,
        "LAB_POOLER_IDLE_S": IDLE_S,
        "LAB_POOLER_CHECK_S": CHECK_S,
        "LAB_POOLER_RETRY_S": RETRY_S,
    }
    wall_s = {name: f"{real / knobs.speed:.3f}" for name, real in seconds.items()}
    return {"LAB_POOLER_CLIENTS": str(MAX_CLIENTS), **wall_s}


def lead_to(toxiproxy: str, upstream: str) -> None:
    """Have the database's proxy lead there; connections that it has are closed.

    Args:
        toxiproxy: address of its API.
        upstream: host and port, as Toxiproxy reaches them.

    Raises:
        PartFailed: it does not.
    """
    try:
        url, wanted = f"{toxiproxy}/proxies/{PROXY}", {"upstream": upstream}
        answer = http().post(url, json=wanted, timeout=ASK_S)
        led = answer.json().get("upstream") if answer.ok else answer.text
    except (requests.RequestException, ValueError) as error:
        led = type(error).__name__
    if led != upstream:
        what = f"Toxiproxy did not lead the proxy {PROXY} to {upstream}: {led}"
        raise PartFailed(what, "see its log")


class Console:
    """Its admin console, over a connection that is kept open: counted as a client, never refused.

    Args:
        dsn: libpq URL of the superuser at PgBouncer itself, not through the proxy.
    """

    def __init__(self, dsn: str) -> None:
        self._monitor = Monitor(f"{dsn.rsplit('/', 1)[0]}/{CONSOLE}")

    def answers(self) -> bool:
        """Whether it serves."""
        return self._monitor.answers(CONSOLE)

    def state(self) -> PoolerState:
        """Its pool of the application now; all zero before its first client.

        Raises:
            psycopg2.Error: it does not answer.
        """
        mine = {"database": DATABASE, "user": APP_ROLE}
        pool = _row(self._monitor.records("SHOW POOLS"), mine)
        totals = _row(self._monitor.records("SHOW STATS"), {"database": DATABASE})
        return PoolerState(
            clients_active=pool.get("cl_active", 0),
            clients_waiting=pool.get("cl_waiting", 0),
            servers_active=pool.get("sv_active", 0),
            servers_idle=sum(pool.get(name, 0) for name in ("sv_idle", "sv_used", "sv_tested")),
            longest_wait_s=pool.get("maxwait", 0) + pool.get("maxwait_us", 0) / 1e6,
            wait_s=totals.get("total_wait_time", 0) / 1e6,
            transactions=totals.get("total_xact_count", 0),
        )

    def close_idle(self) -> None:
        """Have it close its unused connections to Postgres; some may take a moment.

        Raises:
            psycopg2.Error: it does not answer.
        """
        self._monitor.query("RECONNECT")

    def release(self) -> None:
        """Close the connection; the next question opens another."""
        self._monitor.release()


def _row(rows: list[dict[str, object]], wanted: Mapping[str, str]) -> dict[str, int]:
    """The numbers of the row that is of these; none where there is no such row."""
    for row in rows:
        if wanted.items() <= row.items():
            return {name: int(str(n)) for name, n in row.items() if str(n).isdecimal()}
    return {}


class Pooler(Part):
    """PgBouncer as a process; as ``nobody`` where the lab is root, which it refuses to be.

    It is ended by SIGKILL: what an orderly end waits for is its clients' end.

    Args:
        database: Postgres, whose roles log in here with their own passwords.
    """

    name = POOLER
    ask: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self, folder: Path, port: int, database: Postgres) -> None:
        super().__init__(folder)
        self.port = port
        self._database = database
        self._user = "nobody" if os.geteuid() == 0 else None
        self.console = Console(database.dsn(SUPERUSER, port))

    def start(self, knobs: Knobs) -> None:
        binary, run = program(), self.folder / "pooler"
        if not run.exists():
            make_folder(run, 0o711)
            users = (f'"{role}" "{word}"\n' for role, word in self._database.passwords.items())
            self._write(run / "users.txt", "".join(users))
        config = run / "pgbouncer.ini"
        config.unlink(missing_ok=True)
        template = paths.data("compose", "pooler", "pgbouncer.ini").read_text()
        self._write(config, nginx.render(template, self._values(knobs)))
        command: list[str | Path] = [binary, config.name]
        self._process = Process(self.name, command, self.log, user=self._user, cwd=run)
        self._process.wait_ready(self.console.answers)

    def stop(self) -> None:
        self.console.release()
        super().stop()

    def _write(self, path: Path, text: str) -> None:
        write_private(path, text)
        if self._user:
            nobody = pwd.getpwnam(self._user)
            os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def _values(self, knobs: Knobs) -> dict[str, str]:
        return {
            **knobs.as_env(),
            **settings(knobs),
            "LAB_POOLER_DATABASE": HOST,
            "LAB_POOLER_DATABASE_PORT": str(self._database.port),
            "LAB_POOLER_ADDRESS": HOST,
            "LAB_POOLER_LISTEN": str(self.port),
            "LAB_POOLER_SOCKET_DIR": "",
            "LAB_POOLER_USERS": "users.txt",
        }
