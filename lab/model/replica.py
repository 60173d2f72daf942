"""The replica as every room knows it: its targets, parts, names, limits of nginx, and students.

Where the backend runs: on the VM behind nginx, or on Cloud Run behind its gateway. What the
parts call each other by, and what they must agree on, stands here once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Literal, get_args

from lab.model.knobs import Knobs
from lab.model.units import PRESET

Target = Literal["vm", "cloudrun"]

TARGETS: tuple[Target, ...] = get_args(Target)

GATEWAY = "front"
"""The name of Cloud Run's gateway as a part, in evidence, messages and files."""

INSTANCE_LABEL = "replica-lab.front"
"""The label of each instance that is a container; its value is the gateway's process id."""

INSTANCE_PREFIX = "replica-lab-front-"
"""What an instance's name begins with: the gateway's process id and its own name follow."""

INSTANCE_VARIABLE = "LAB_INSTANCE_NAME"
"""The variable in which an instance is told its own name."""

PORTS_VARIABLE = "LAB_BACKEND_PORTS"
"""The variable in which the VM's backend is told the port of each of its listening sockets."""

_SHARED = ("postgres", "fake-gcs-server", "speech", "toxiproxy")

PARTS: dict[Target, tuple[str, ...]] = {
    "vm": (*_SHARED, "backend", "nginx"),
    "cloudrun": (*_SHARED, GATEWAY),
}
"""The parts that every replica has, in the order in which they need each other.

Instances are no parts: they come and go, and that one dies is a result.
"""

POSTGRES = "postgres"

POOLER = "pgbouncer"
"""The part that a replica has by the knob ``pooler`` alone: it comes after `POSTGRES`."""

POOLER_PATIENCE_S = 120.0
"""Real-world seconds for which a client of PgBouncer waits for a connection of Postgres', its
``query_wait_timeout``; then it is refused, and its connection closed."""

DATABASE = "students"
SUPERUSER = "postgres"
APP_ROLE = "app"
"""The application's role in the database: a plain one, which ``db_cap`` limits."""

BUCKET = "student-recordings"
UPLOAD_PATH = "/api/students/upload-recording"
HEALTH_PATH = "/health"

HEALTH_FILE = "health.jsonl"
"""The file of the VM's health probes that failed, in the folder of the workers' evidence."""

MULTIPART_BYTES = 177
"""Bytes of an upload's body that are not its file: the form around it (RFC 7578)."""

PLATFORM_BODY = 32 * 1024**2
"""Bytes of a request over HTTP/1 to Cloud Run ("Cloud Run quotas and limits")."""


def pooled(knobs: Knobs) -> bool:
    """Whether PgBouncer stands before Postgres."""
    return knobs.pooler != "off"


def parts_of(target: Target, with_pooler: bool) -> tuple[str, ...]:
    """The parts of a replica on this target, in the order in which they need each other."""
    parts = PARTS[target]
    after = parts.index(POSTGRES) + 1
    return (*parts[:after], POOLER, *parts[after:]) if with_pooler else parts


def services(target: Target, with_pooler: bool = False) -> tuple[str, ...]:
    """Its parts but the gateway, which is a process of the lab's on every stack."""
    return tuple(part for part in parts_of(target, with_pooler) if part != GATEWAY)


def contradiction(target: Target, knobs: Knobs) -> tuple[str, str] | None:
    """What these knobs cannot be *together* on this target, and the remedy; None if nothing is."""
    if knobs.health_probe is not None and knobs.health_timeout > knobs.health_probe:
        return (
            f"health_timeout is {knobs.health_timeout:g} s, above health_probe,"
            f" {knobs.health_probe:g} s",
            "lower one or raise the other",
        )
    if pooled(knobs) and knobs.pooler_size > knobs.db_cap:
        return (
            f"pooler_size is {knobs.pooler_size}, above db_cap, {knobs.db_cap}: Postgres would "
            "refuse PgBouncer",
            "lower one or raise the other",
        )
    if target == "vm":
        return None
    if knobs.balance != "shared_socket":
        return (
            f"balance: {knobs.balance} with target cloudrun: there is no nginx, and the platform "
            "chooses the instance",
            "leave balance out, or use target vm",
        )
    if knobs.speed != 1:
        return (
            f"speed {knobs.speed:g} with target cloudrun: no speed shortens the start of an "
            "instance",
            "leave speed out, or use target vm",
        )
    return knobs.contradiction()


@dataclass(frozen=True)
class NginxLimits:
    """What one configuration of nginx lets pass, in real-world time, which ``speed`` divides.

    Args:
        body: bytes of a request's body; a larger one is answered 413. None lets every size pass.
        read_s: seconds between two reads of the backend's answer; then 504. Infinite where nginx
            waits as long as it takes.
        send_s: seconds between two writes of the request to the backend; then 504.
        connect_s: seconds until the backend accepts; then 504.
        connections: that it holds at once, to users and to the backend together.
    """

    body: int | None
    read_s: float
    send_s: float
    connect_s: float
    connections: int = 1024

    @property
    def uploads(self) -> int:
        """Uploads that it passes on at once: each takes a connection to the user and one to the
        backend, and two are nginx's own, for its listener and to its master process."""
        return (self.connections - NGINX_OWN) // 2

    @property
    def patience_s(self) -> float:
        """Seconds after which nginx answers 504: for the answer, or where it waits for that as
        long as it takes, for the backend to accept and to read."""
        return self.read_s if isfinite(self.read_s) else min(self.send_s, self.connect_s)


NGINX_OWN = 2
"""Connections of ``worker_connections`` that nginx itself holds (`ngx_event_process_init`): the
listener's and the channel's from the master; of 1,024 it passed on 511 uploads at once, measured.
"""

_PRESETS: Mapping[str, NginxLimits] = {
    "as-found": NginxLimits(body=1024**2, read_s=60, send_s=60, connect_s=60),
    "recommended": NginxLimits(body=3 * 1024**2, read_s=30, send_s=60, connect_s=60),
}
"""By value of the knob ``nginx``. All are nginx's defaults, but for the report's recommended
body limit of 3 MiB and read timeout of 30 s."""


def nginx_limits(knobs: Knobs) -> NginxLimits:
    """nginx's limits: the preset ``nginx``, but for what a knob of its own sets or switches off."""
    preset, body, read_s = _PRESETS[knobs.nginx], knobs.nginx_body, knobs.nginx_read_timeout
    return replace(
        preset,
        body=preset.body if body == PRESET else body,
        read_s=preset.read_s if read_s == PRESET else inf if read_s is None else read_s,
        connections=knobs.nginx_connections,
    )


def file_limit(target: Target, knobs: Knobs) -> int | None:
    """Bytes of the largest file whose upload nobody refuses for its size; None: any is taken.

    By nginx's limit or the platform's, whichever the target has, and by the backend's own.
    """
    bodies = [nginx_limits(knobs).body if target == "vm" else PLATFORM_BODY, knobs.backend_body]
    return min((body - MULTIPART_BYTES for body in bodies if body is not None), default=None)


STUDENTS = 5000
"""How many there are; a load may have no more users."""

ADDRESS_HEADER = "X-Lab-Client-Address"
"""The header in which the generator names a user's address.

All users of a replica share one loopback address. nginx takes this header, from loopback
only, for the client's address (realip), and does not pass it on.
"""


REQUEST_HEADER = "X-Request-ID"
"""The header with an upload's id, by which the user's sample and the worker's record are joined."""

WORKER_HEADER = "X-Worker"
"""The header in which each answer says which worker gave it, by its number in the evidence."""

HANDED_HEADER = "X-Request-Start"
"""The header in which a proxy says when it passed a request on: ``t=`` and seconds since 1970, or
``m=`` and the seconds of the machine's monotonic clock, which nginx cannot tell."""


def token(number: int) -> str:
    """The bearer token of student ``number``, counted from 0; the database holds the same."""
    return f"student-token-{number:05d}"


def address(number: int) -> str:
    """An IPv4 address of its own for each student, from the range for benchmarks (RFC 2544)."""
    return f"198.18.{number // 250}.{number % 250 + 1}"
