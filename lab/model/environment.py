"""The environment of a program that the lab starts: what it needs, and nothing else of the user's.

The user's environment has more than a part should see: libpq's settings (``PGSSLMODE``), proxies,
certificates, secrets, ``LD_PRELOAD``. A part gets what is listed here, and what it is given.

    REPLICA_LAB_PASS=LD_PRELOAD,FAKETIME    the one way to let more through, by name

It is meant for tests and validation, which put a part under another clock, and for a Python
that does not start without ``LD_LIBRARY_PATH``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

PASS = "REPLICA_LAB_PASS"  # noqa: S105 - names of variables, not a password
"""Names of further variables that every program gets, with commas between them."""

NAMES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP"}
)
"""What any program may need: where programs and files are, who runs it, its language and zone."""

ENGINE = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"),
)
"""What the clients of a container engine need: which it is, and how it is reached."""

PREFIXES = ("LC_", "REPLICA_LAB_")
"""The rest of the language, and the lab's own: whose part a process is, and `PASS`."""


def child_environment(
    given: Mapping[str, str] | None = None,
    names: Collection[str] = (),
    env: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of a child process.

    Args:
        given: its own variables, which go before all others.
        names: of further variables that this program needs of the user's.
        env: the user's environment.
    """
    passed = {name.strip() for name in env.get(PASS, "").split(",")}
    allowed = NAMES.union(names, passed)
    kept = {
        name: value for name, value in env.items() if name in allowed or name.startswith(PREFIXES)
    }
    return {**kept, **(given or {})}


def python_variables(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a child needs that is a module of the lab, in this interpreter.

    It finds the lab and its packages where this process did, not in its working folder; and
    its HTTP client reads no password from ``~/.netrc``, which would replace a student's token.
    """
    root = Path(__file__).resolve().parents[2]
    given = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    return {
        "PYTHONPATH": os.pathsep.join([str(root), *map(os.path.abspath, given)]),
        "PYTHONSAFEPATH": "1",
        "NETRC": os.devnull,
    }
