"""A program for an instance to run: each path spends what its query says.

``/spin`` burns CPU for ``s`` seconds, ``/take`` keeps ``mib`` of memory, ``/file`` writes as
much to a temporary file, ``/child`` has a process of its own take as much, ``/later`` goes on in
the background after it has answered, ``/pid`` does nothing. What is posted is answered with its
length. SIGTERM is told on stdout and obeyed, unless the first argument is ``stubborn``.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MIB = 1024**2
kept: list[object] = []


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def take(mib: float) -> None:
    block = bytearray(int(mib) * MIB)
    block[::4096] = b"x" * len(block[::4096])
    kept.append(block)


def file(mib: float) -> None:
    target = tempfile.TemporaryFile()  # noqa: SIM115 - kept open until the end
    kept.append(target)
    for _ in range(int(mib)):
        target.write(bytes(MIB))
    target.flush()


def child(mib: float) -> None:
    if os.fork() == 0:
        take(mib)
        signal.pause()


def later(seconds: float) -> None:
    threading.Thread(target=spin, args=(seconds,), daemon=True).start()


def nothing(_: float) -> None:
    pass


WORK = {
    "/spin": spin,
    "/take": take,
    "/file": file,
    "/later": later,
    "/child": child,
    "/pid": nothing,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        amount = float(parse_qs(target.query).get("n", ["0"])[0])
        WORK[target.path](amount)
        self.answer(os.getpid())

    def do_POST(self) -> None:
        self.answer(len(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, number: int) -> None:
        body = str(number).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The log is for SIGTERM alone."""


def obey(*_: object) -> None:
    os.write(1, b"SIGTERM\n")
    if sys.argv[1:] != ["stubborn"]:
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, obey)
    ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
