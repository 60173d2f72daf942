"""Requests that no user of a service sends, as bytes, and what each server must answer.

A row is what goes over the connection, in order: bytes; a pause, in wall-clock seconds; or the end
of the connection. Beside it stands what nginx, uvicorn and Cloud Run's gateway may answer, as the
load generator would count it: ``400 bad_upload``; several answers of one connection with a ``+``
between them; ``closed`` where it was closed without one; ``open`` where the server still waits for
more, as it may while the request can yet become whole; ``-`` where nobody is there to read it.

Why each is right stands in RFC 9110 and RFC 9112 (their sections are named at the families), in the
documentation of nginx, or in the table of knobs. Where servers differ, each is as its own
documentation says; none may answer 500, die, or keep what it was sent.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lab.load.upload import headers
from lab.model.replica import HANDED_HEADER, REQUEST_HEADER, UPLOAD_PATH, token


class End(Enum):
    """How a client ends its side of a connection."""

    HALF = "half"  #: it sends no more, and reads on
    CLOSE = "close"  #: it leaves
    RESET = "reset"  #: it leaves, and its kernel says so at once


Step = bytes | float | End

SERVERS = ("nginx", "uvicorn", "gateway")


@dataclass(frozen=True)
class Hostile:
    """A request, and what may come of it.

    Args:
        name: what is wrong with it.
        steps: what goes over the connection.
        nginx: what nginx may answer, alternatives separated by ``|``; likewise the others.
        slow: whether it takes seconds because the server waits, not because it works.
    """

    name: str
    steps: tuple[Step, ...]
    nginx: str
    uvicorn: str
    gateway: str
    slow: bool = False

    def allowed(self, server: str) -> frozenset[str]:
        """What a server may answer."""
        return frozenset(str(getattr(self, server)).split("|"))


BOUNDARY = "hostile-5f0c3a91"
OK, BAD, GONE = "200 ok", "400 bad_upload", "-"
HOST = "Host: lab"
AUDIO = b"RIFF" + b"\0" * 2000
CRLF = "\r\n"


def row(
    name: str,
    steps: bytes | tuple[Step, ...],
    answer: str,
    *,
    nginx: str = "",
    uvicorn: str = "",
    gateway: str = "",
    slow: bool = False,
) -> Hostile:
    """A row; ``answer`` is that of every server of which nothing else is said."""
    sent = (steps,) if isinstance(steps, bytes) else steps
    return Hostile(name, sent, nginx or answer, uvicorn or answer, gateway or answer, slow)


def part(
    *lines: str, content: bytes = AUDIO, boundary: str = BOUNDARY, newline: str = CRLF
) -> bytes:
    """A part of a multipart body, with these header lines."""
    head = newline.join([f"--{boundary}", *lines, "", ""])
    return head.encode("latin-1") + content + newline.encode()


FILE = 'Content-Disposition: form-data; name="file"; filename="a.wav"'
WAV = "Content-Type: audio/wav"
CLOSING = f"--{BOUNDARY}--{CRLF}".encode()
WHOLE = part(FILE, WAV) + CLOSING
USER = [f"{name}: {value}" for name, value in headers(0).items() if name != "Content-Type"]
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
UPLOAD = f"POST {UPLOAD_PATH} HTTP/1.1"


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    """A request as it is written, byte for byte; nothing is added but the lines' ends."""
    return CRLF.join([line, *fields, "", ""]).encode("latin-1") + body


def get(*fields: str, line: str = "GET /health HTTP/1.1") -> bytes:
    """A request for the health page that closes its connection."""
    return request(line, HOST, "Connection: close", *fields)


def upload(
    *fields: str,
    body: bytes = WHOLE,
    form: str = FORM,
    user: list[str] | None = None,
    length: int | None = None,
) -> bytes:
    """An upload of a student that closes its connection: whole, but for what is said."""
    size = len(body) if length is None else length
    named = [form] if form else []
    user = USER if user is None else user
    always = [HOST, "Connection: close", *user, *named, *fields, f"Content-Length: {size}"]
    return request(UPLOAD, *always, body=body)


def bare(*fields: str, body: bytes = b"", line: str = UPLOAD) -> bytes:
    """An upload without a length of its own, as the fields say."""
    return request(line, HOST, "Connection: close", *USER, FORM, *fields, body=body)


def chunks(*blocks: bytes, extension: str = "", end: bytes = b"0\r\n\r\n") -> bytes:
    """A body in chunks (RFC 9112, 7.1)."""
    return b"".join(b"%x%s\r\n%s\r\n" % (len(b), extension.encode(), b) for b in blocks) + end


CHUNKED = "Transfer-Encoding: chunked"


NOWHERE = f"404 not_found|{BAD}"
"""What is not decoded is no path, and what is, is none that there is."""


def request_lines() -> Iterator[Hostile]:
    """RFC 9112, 3: the request line and its target; RFC 9110, 9: methods."""
    yield row("nothing, and the end", (b"", End.HALF), "closed")
    yield row("blank lines before it", b"\r\n\r\n" + get(), OK)
    yield row("bytes that are no text", b"\0\1\2\3\xff\xfe\r\n\r\n", BAD)
    yield row("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 64, BAD)
    yield row("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD)
    # nginx answers it as it is asked: without a status; uvicorn as if it were 1.1 (llhttp).
    yield row("HTTP/0.9", b"GET /health\r\n\r\n", BAD, nginx="no status line", uvicorn=OK)
    yield row("HTTP/1.0", b"GET /health HTTP/1.0\r\n\r\n", OK, gateway=BAD)  # no Host
    for version in ("HTTP/9.9", "HTTP/1.", "HTTP/", "http/1.1", "HTTQ/1.1"):
        yield row(
            f"version {version}",
            get(line=f"GET /health {version}"),
            "400 bad_upload|505 bad_upload",
        )
    yield row("version HTTP/1.11", get(line="GET /health HTTP/1.11"), BAD, nginx=OK)  # some 1.x
    yield row("no version, no target", b"GET\r\n\r\n", BAD)
    for method, answer in (
        ("get", BAD),
        ("FOO", BAD),  # nginx passes it on
        ("TRACE", "405 method_not_allowed"),
        ("CONNECT", f"{BAD}|405 method_not_allowed"),
        ("DELETE", "405 method_not_allowed"),
        ("OPTIONS", "405 method_not_allowed"),
        ("PRI", BAD),
        ("G\0T", BAD),
        ("X" * 5000, BAD),
    ):
        yield row(f"method {method[:12]!r}", get(line=f"{method} /health HTTP/1.1"), answer)
    for target, answer in (
        ("http://other/health", OK),
        ("//health", f"404 not_found|{OK}"),  # merge_slashes of nginx
        ("*", f"404 not_found|{BAD}"),
        ("health", BAD),
        ("/health#x", OK),
        ("/health?" + "q" * 5000, OK),
        ("/health?" + "q" * 200_000, f"414 bad_upload|{BAD}|431 bad_upload"),
        ("/health?a=\0", BAD),
        ("/health\0", BAD),
        ("/health\x7f", BAD),
        ("/health\xff", BAD),
        ("/health%00", NOWHERE),
        ("/health%", NOWHERE),
        ("/health%zz", NOWHERE),
        ("/../../etc/passwd", NOWHERE),
        ("/api/%2e%2e/%2e%2e/etc/passwd", NOWHERE),
        ("/api/..;/health", "404 not_found"),
        ("/health /x", BAD),
        ("/health\tx", BAD),
        ("\\health", BAD),
        ("/" + "a" * 9000, "414 bad_upload|404 not_found"),
    ):
        asks = get(line=f"GET {target} HTTP/1.1")
        yield row(f"target {target[:24]!r} ({len(target)})", asks, answer)


TOO_LONG = "431 bad_upload"


def fields() -> Iterator[Hostile]:
    """RFC 9112, 5 and 3.2; RFC 9110, 5.5: header fields, control bytes and Host."""
    for code in (*range(32), 127):
        # A bare LF may end a line (RFC 9112, 2.2), and nginx leaves out a line that is no field.
        name, value = f"byte {code} in a field's value", f"X-A: a{chr(code)}b"
        yield row(name, get(value), OK if code == 9 else BAD, nginx=OK if code == 10 else "")
    for code in (0, 9, 10, 13, 32, 127, 128, 255):
        left_out = f"{BAD}|{OK}"
        yield row(f"byte {code} in a field's name", get(f"X{chr(code)}A: b"), BAD, nginx=left_out)
    yield row("a value that is not ASCII", get("X-A: \xff\xfe"), OK)
    # uvicorn looks at no Host, and nor does the service; nginx and the platform choose by it.
    yield row("no Host", request("GET /health HTTP/1.1", "Connection: close"), BAD, uvicorn=OK)
    yield row("two Hosts", get("Host: other"), BAD, uvicorn=OK)
    strange = request("GET /health HTTP/1.1", "Host: a/b c")
    yield row("a Host that is none", strange, OK, nginx=BAD)
    yield row("no colon", get("X-A b"), BAD)
    yield row("a blank before the colon", get("X-A : b"), BAD)
    yield row("no name", get(": b"), BAD)
    yield row("a folded line", get("X-A: a\r\n b"), BAD)
    yield row("a folded first line", request("GET /health HTTP/1.1", " X-A: b", HOST), BAD)
    yield row("lines that end in LF", get().replace(b"\r\n", b"\n"), f"{OK}|{BAD}")
    # nginx: four buffers of 8 KB (large_client_header_buffers); the gateway: 64 KiB; uvicorn has no
    # limit of its own, and stands behind one that has.
    for count, nginx, gateway in ((100, OK, OK), (1000, BAD, OK), (10_000, BAD, TOO_LONG)):
        many = (f"X-{n}: {n}" for n in range(count))
        yield row(f"{count} fields", get(*many), OK, nginx=nginx, gateway=gateway)
    for size, nginx, gateway in (
        (7000, OK, OK),
        (100_000, BAD, TOO_LONG),
        (2_000_000, BAD, TOO_LONG),
    ):
        for name, field in (("field", "X-A: " + "a" * size), ("name", "X" * size + ": a")):
            yield row(f"a {name} of {size} bytes", get(field), OK, nginx=nginx, gateway=gateway)
    yield row("a cookie of 60 KB", get("Cookie: " + "c" * 60_000), OK, nginx=BAD)
    endless: tuple[Step, ...] = (b"GET /health HTTP/1.1\r\nX-A: " + b"a" * 2_400_000, End.HALF)
    yield row("a field without end", endless, "-", nginx=BAD, gateway=f"{TOO_LONG}|closed")


def lengths() -> Iterator[Hostile]:
    """RFC 9110, 8.6 and RFC 9112, 6.3: Content-Length, alone."""
    for value in ("-1", "+5", "0x5", "5 5", "5, 6", "5;", "abc", "", "1e3", "\xb2"):
        yield row(f"length {value!r}", bare(f"Content-Length: {value}", body=WHOLE), BAD)
    for value in ("9" * 19, "9" * 40):  # uvicorn's parser counts to 2^64
        answer = f"{BAD}|413 upload_too_large|413 too_large"
        long = bare(f"Content-Length: {value}", body=WHOLE)
        yield row(f"length {value}", long, answer, slow=True)
    size = len(WHOLE)
    twice = f"Content-Length: {size}"
    yield row("one length twice", bare(twice, twice, body=WHOLE), BAD)
    yield row("one length as a list", bare(f"{twice}, {size}", body=WHOLE), BAD)
    yield row("two lengths", bare(twice, "Content-Length: 5", body=WHOLE), BAD)
    yield row("no length, no body", bare(), "422 bad_upload")
    yield row("no length, but a body", bare(body=WHOLE), "422 bad_upload")
    yield row("a length of 0, but a body", bare("Content-Length: 0", body=WHOLE), "422 bad_upload")
    yield row("a length too short", upload(length=size - 500), "422 bad_upload")
    yield row("a length too long", (upload(length=size + 500), End.HALF), GONE)
    yield row("a length of 2 GB", (upload(length=2**31), End.HALF), GONE)
    yield row("a body of a GET", get("Content-Length: 5") + b"hello", OK)


def codings() -> Iterator[Hostile]:
    """RFC 9112, 6.1 and 7: transfer codings, and what can be smuggled by them (11.2)."""
    yield row("chunks", bare(CHUNKED, body=chunks(WHOLE)), OK)
    yield row("chunks of a byte", bare(CHUNKED, body=chunks(*(bytes([b]) for b in WHOLE))), OK)
    both = ("Content-Length: 5", CHUNKED)
    yield row("a length and chunks", bare(*both, body=chunks(WHOLE)), BAD)
    yield row("chunks and a length", bare(*both[::-1], body=chunks(WHOLE)), BAD)
    for value in (
        "identity", "chunked, identity", "xchunked", "chunked\x0b", "chunked,", "gzip, chunked",
        '"chunked"', "chunked, chunked", "",
    ):  # fmt: skip
        yield row(
            f"coding {value!r}",
            bare(f"Transfer-Encoding: {value}", body=chunks(WHOLE)),
            f"{BAD}|{OK}" if value == "gzip, chunked" else BAD,  # the service decodes nothing
            nginx="501 bad_upload",
        )
    yield row("coding CHUNKED", bare("Transfer-Encoding: CHUNKED", body=chunks(WHOLE)), OK)
    yield row("a coding twice", bare(CHUNKED, CHUNKED, body=chunks(WHOLE)), BAD)
    yield row("a folded coding", bare("Transfer-Encoding:\r\n chunked", body=chunks(WHOLE)), BAD)
    old = f"POST {UPLOAD_PATH} HTTP/1.0"
    yield row("chunks of HTTP/1.0", bare(CHUNKED, line=old, body=chunks(WHOLE)), OK, nginx=BAD)
    yield row("an extension", bare(CHUNKED, body=chunks(WHOLE, extension=";a=b")), OK)
    long = chunks(WHOLE, extension=";a=" + "b" * 100_000)
    yield row("an extension of 100 KB", bare(CHUNKED, body=long), OK)
    for size in ("g", "-1", "0x5", "", " 5", "5 ", "+5", "1" * 20, "5\0", "5,5"):
        body = f"{size}\r\nhello\r\n0\r\n\r\n".encode()
        yield row(f"a chunk of size {size!r}", bare(CHUNKED, body=body), BAD)
    no_end = chunks(WHOLE, end=b"").removesuffix(b"\r\n") + b"XX0\r\n\r\n"
    yield row("a chunk that goes on", bare(CHUNKED, body=no_end), BAD)
    yield row("chunks without a last", (bare(CHUNKED, body=chunks(WHOLE, end=b"")), End.HALF), GONE)
    trailer = b"0\r\nAuthorization: Bearer x\r\nContent-Length: 9\r\n\r\n"
    yield row("a trailer", bare(CHUNKED, body=chunks(WHOLE, end=trailer)), BAD, nginx=OK)
    inner = get(line="GET /nothing HTTP/1.1")
    smuggled = bare("Content-Length: 4", CHUNKED, body=b"0\r\n\r\n" + inner)
    yield row("a request behind the last chunk", smuggled, BAD)
    alive = upload().replace(b"Connection: close\r\n", b"")
    yield row("a request behind a body", alive + get(), "200 ok+200 ok")
    many = get().replace(b"Connection: close\r\n", b"") * 20 + get()
    yield row("21 requests at once", many, "+".join([OK] * 21))


def ends() -> Iterator[Hostile]:
    """RFC 9112, 9.5: a client that leaves, at each kind of byte."""
    whole = upload()
    head = whole.index(b"\r\n\r\n") + 4
    places = {
        "in the method": 2,
        "in the target": 20,
        "in a field": len(UPLOAD) + 5,
        "before the blank line": head - 2,
        "before the body": head,
        "after a byte of the body": head + 1,
        "in a boundary": head + 8,
        "in a part's head": head + 60,
        "in the file": head + 1000,
        "before the last byte": len(whole) - 1,
        "after all": len(whole),
    }
    for name, at in places.items():
        for how in (End.CLOSE, End.RESET):
            yield row(f"{how.value} {name}", (whole[:at], how), GONE)
    yield row("close in a chunk", (bare(CHUNKED, body=b"5\r\nhel"), End.CLOSE), GONE)


def forms() -> Iterator[Hostile]:
    """RFC 7578 and RFC 2046, 5.1: the body of an upload."""
    form = "Content-Type: multipart/form-data"
    no_file = "422 bad_upload"
    for name, kind, answer in (
        ("no media type", "", no_file),
        ("no boundary", form, BAD),
        ("an empty boundary", f"{form}; boundary=", BAD),
        ("another boundary", f"{form}; boundary=other", BAD),
        ("a boundary of 2,000", f"{form}; boundary={'b' * 2000}", BAD),
        ("a boundary in quotes", f'{form}; boundary="{BOUNDARY}"', OK),
        ("a boundary that is no ASCII", f"{form}; boundary=\xff", BAD),
        ("a charset", f"{FORM}; charset=utf-16", no_file),  # in which no field is called file
        ("multipart/mixed", f"Content-Type: multipart/mixed; boundary={BOUNDARY}", no_file),
        ("a URL-encoded form", "Content-Type: application/x-www-form-urlencoded", no_file),
        ("JSON", "Content-Type: application/json", no_file),
    ):
        yield row(name, upload(form=kind), answer)
    deep = json.dumps({"file": "x"}).encode() + b"[" * 100_000
    yield row("deep JSON", upload(form="Content-Type: application/json", body=deep), no_file)
    yield row("no part", upload(body=CLOSING), no_file)
    yield row("a body that is empty", upload(body=b""), no_file)
    yield row("no closing boundary", upload(body=part(FILE, WAV)), no_file)
    yield row("a first line that is none", upload(body=b"x" * 50_000 + b"\r\n" + WHOLE), BAD)
    yield row("bytes behind the end", upload(body=WHOLE + b"x" * 50_000), OK)
    yield row("a form's lines that end in LF", upload(body=WHOLE.replace(b"\r\n", b"\n")), BAD)
    yield row("an empty file", upload(body=part(FILE, WAV, content=b"") + CLOSING), BAD)
    inner = part(FILE, WAV, boundary="inner") + b"--inner--\r\n"
    nested = part(FILE, "Content-Type: multipart/mixed; boundary=inner", content=inner)
    yield row("a form in a form", upload(body=nested + CLOSING), "415 bad_upload")
    other = part('Content-Disposition: form-data; name="other"; filename="a.wav"', WAV)
    yield row("the file under another name", upload(body=other + CLOSING), no_file)
    yield row("two files", upload(body=part(FILE, WAV) + WHOLE), OK)
    text = part('Content-Disposition: form-data; name="file"', content=b"text")
    yield row("text for the file", upload(body=text + CLOSING), no_file)
    small = part(FILE, WAV, content=b"x")
    yield row("1,001 files", upload(body=small * 1001 + CLOSING), BAD)
    field = part('Content-Disposition: form-data; name="a"', content=b"x")
    yield row("1,001 fields", upload(body=field * 1001 + CLOSING), BAD)
    large = part('Content-Disposition: form-data; name="a"', content=b"x" * 1_048_000)
    by_nginx = "413 body_too_large"
    yield row("a field of 1 MB and a file", upload(body=large + WHOLE), OK, nginx=by_nginx)
    more = part('Content-Disposition: form-data; name="a"', content=b"x" * 1_100_000)
    yield row("a field above 1 MiB", upload(body=more + WHOLE), BAD, nginx=by_nginx)
    name = 'Content-Disposition: form-data; name="{}"; filename="a.wav"'
    for size in (1000, 100_000):
        body = part(name.format("n" * size), WAV) + CLOSING
        yield row(f"a field's name of {size}", upload(body=body), f"{no_file}|{BAD}")
    for head, answer in (
        ("X-A b", BAD),
        ("X\0A: b", BAD),
        (": b", BAD),
        ("X-A: b\0", OK),
        ("X-A: " + "b" * 100_000, BAD),
        ("X-A: b\r\n" * 500 + "X-B: b", BAD),
    ):
        body = part(head, FILE, WAV) + CLOSING
        yield row(f"a part with {head[:12]!r} ({len(head)})", upload(body=body), answer)
    yield row("a part without a head", upload(body=part() + CLOSING), BAD)
    nameless = part("Content-Disposition: form-data", WAV)
    yield row("a part without a name", upload(body=nameless + CLOSING), BAD)
    encoded = part(FILE, WAV, "Content-Transfer-Encoding: base64")
    yield row("a transfer encoding", upload(body=encoded + CLOSING), OK)


def files() -> Iterator[Hostile]:
    """RFC 9110, 8.3 and RFC 6266: what a file says it is, and is called."""
    for kind in (
        "audio/wav", "AUDIO/WAV", "audio/wav; rate=16000", 'audio/wav; a="b c"', "audio/x-anything",
    ):  # fmt: skip
        yield row(f"type {kind}", upload(body=part(FILE, f"Content-Type: {kind}") + CLOSING), OK)
    for kind in (
        "text/plain", "audio", "audio/", "/wav", "audio/wav/x", "audio/wav x", "audio/wav\0",
        "audio/wav\x01", "audio/wav\x7f", "audio/wav\xff", "audio/wav; a", "audio/wav; a=",
        'audio/wav; a="', "audio/*, audio/wav", "audio/" + "w" * 300, "video/mp4", "",
        "audio/wav\n", "audio/wav\nX: y",
    ):  # fmt: skip
        body = part(FILE, f"Content-Type: {kind}") + CLOSING
        yield row(f"type {kind[:24]!r}", upload(body=body), "415 bad_upload")
    for name in (
        "", "a\0b", "../../etc/passwd", "C:\\a.wav", "\x1b]0;x\x07", "\xff\xfe", "\xe2\x80\xae",
        "a%00", "x" * 4000, "a;b=c", "a'b", ".",
    ):  # fmt: skip
        line = f'Content-Disposition: form-data; name="file"; filename="{name}"'
        yield row(f"name {name[:20]!r}", upload(body=part(line, WAV) + CLOSING), OK)
    line = "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''a%00%0d%0ab.wav"
    # RFC 7578, 4.2: not in a form; so it is no file.
    yield row("an encoded name", upload(body=part(line, WAV) + CLOSING), "422 bad_upload")
    bomb = gzip.compress(b"\0" * 20_000_000)
    yield row("a body that is a gzip bomb", upload("Content-Encoding: gzip", body=bomb), BAD)
    big = part(FILE, WAV, content=b"\0" * 1_500_000) + CLOSING
    yield row("a file above nginx's limit", upload(body=big), OK, nginx="413 body_too_large")
    huge = part(FILE, WAV, content=b"\0" * 6_000_000) + CLOSING
    too_large = "413 upload_too_large"
    yield row("a file above every limit", upload(body=huge), too_large, nginx="413 body_too_large")
    parts = [huge[start : start + 60_000] for start in range(0, len(huge), 60_000)]
    blocks = bare(CHUNKED, body=chunks(*parts))
    yield row("the same in chunks", blocks, too_large, nginx="413 body_too_large")
    endless = bare(CHUNKED, body=chunks(*parts, end=b""))
    # uvicorn reads on for 5 s (refuse: after_body), and the gateway's request may take 3 s.
    yield row(
        "chunks without end", endless, too_large, nginx="413 body_too_large",
        gateway="504 request_timeout", slow=True,
    )  # fmt: skip


def users() -> Iterator[Hostile]:
    """RFC 6750, 2.1 and RFC 9110, 11.6.2: who it says that it is."""
    unknown = "401 unauthorized"
    rest = [line for line in USER if not line.startswith("Authorization")]
    for value in (
        None, "", "Bearer", "Bearer ", f"Basic {token(0)}", token(0), f"Bearer  {token(0)}",
        f"Bearer {token(0)} x", "Bearer student-token-99999", "Bearer ' OR 1=1 --",
        "Bearer %00", "Bearer \xff", f"Bearer {token(0).upper()}", "Bearer " + "t" * 7000,
    ):  # fmt: skip
        user = rest if value is None else [*rest, f"Authorization: {value}"]
        yield row(f"user {str(value)[:30]!r}", upload(user=user), unknown)
    yield row("bearer in lower case", upload(user=[*rest, f"Authorization: bearer {token(0)}"]), OK)
    twice = [*rest, f"Authorization: Bearer {token(0)}", "Authorization: Bearer x"]
    yield row("two users", upload(user=twice), OK, nginx=BAD)
    large = upload(user=[f"Authorization: Bearer {'t' * 100_000}"])
    yield row("a token of 100 KB", large, unknown, nginx=BAD, gateway=TOO_LONG)


def wishes() -> Iterator[Hostile]:
    """RFC 9110, 7.8, 10.1 and 14; and the fields by which the lab joins and times its uploads."""
    for line in (
        "Range: bytes=0-5", "Range: bytes=5-1", "If-Match: *", "Accept-Encoding: gzip;q=nan",
        "Accept: \x01".replace("\x01", "a/b;q=9"), "TE: trailers", "Max-Forwards: -1",
        "Connection: X-Request-ID", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x",
        "X-Forwarded-For: " + "1.2.3.4, " * 500, "X-Forwarded-For: \xff", "Forwarded: for=\xff",
        "X-Lab-Client-Address: nobody", "X-Lab-Client-Address: 999.1.1.1",
        "X-HTTP-Method-Override: DELETE", "X-Original-URL: /nothing",
    ):  # fmt: skip
        yield row(f"{line[:40]!r}", upload(line), OK)
    for at in ("t=-1", "t=nan", "t=inf", "t=1e308", "t=9e99", "t=", "yesterday", "t=1,2", "t=\xff"):
        yield row(f"handed over at {at!r}", upload(f"{HANDED_HEADER}: {at}"), OK)
    for name in ("x" * 6000, "\xff\xfe", "a, b", "../../x", "\x1b".replace("\x1b", "{}")):
        yield row(f"called {name[:12]!r}", upload(f"{REQUEST_HEADER}: {name}"), OK)
    waits = upload("Expect: 100-continue")
    yield row("it waits to go on", waits, "100+200 ok")
    yield row("it expects something else", upload("Expect: a-miracle"), f"{OK}|417 bad_upload")


def slow_ones() -> Iterator[Hostile]:
    """Clients that take their time (slowloris): whoever waits must not keep others waiting."""
    whole = upload()
    at = whole.index(b"\r\n\r\n") + 4
    drips = tuple(step for byte in whole[:12] for step in (bytes([byte]), 0.02))
    left = "closed|408 bad_upload"
    yield row("says nothing", (b"",), "open", nginx=left, slow=True)
    yield row("a head, byte by byte", drips, "open", nginx=left, slow=True)
    yield row("no end of the head", (whole[: at - 2],), "open", nginx=left, slow=True)
    late = "504 request_timeout"
    for name, end in (("no body", at), ("half a body", at + 900)):
        yield row(name, (whole[:end],), "open", nginx=left, gateway=late, slow=True)
    bits = (whole[begun : begun + 400] for begun in range(at, len(whole), 400))
    paced = (whole[:at], *(step for bit in bits for step in (bit, 0.05)))
    yield row("a body, bit by bit", paced, OK)


FAMILIES = (
    request_lines, fields, lengths, codings, ends, forms, files, users, wishes, slow_ones,
)  # fmt: skip
"""The families of rows, by what is wrong with them."""


def rows() -> list[Hostile]:
    """All of them."""
    return [each for family in FAMILIES for each in family()]
