"""What the front is told, all of it by its environment.

    HOST, PORT         where it listens for users
    LAB_*              the knobs; the instance gets them, too
    FRONT_EVENTS       the file of its events
    FRONT_LOGS         the folder of its instances' logs
    FRONT_DRIVER       process (default) or docker
    FRONT_COMMAND      process: the command as a JSON list; the backend, if not given
    FRONT_CONTAINER    docker: the arguments of `containers.create`, as a JSON object

An instance gets this environment without FRONT_*, with HOST and PORT of its own, and is told
what it is in place of the VM: one process, on the cores that its CPU amounts to.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from lab.model.knobs import Knobs

T = TypeVar("T")
BACKEND = [sys.executable, "-m", "lab.services.backend"]


@dataclass(frozen=True)
class GatewaySettings:
    """The front's settings; see the module."""

    host: str
    port: int
    knobs: Knobs
    events: Path
    logs: Path
    driver: str
    command: list[str]
    container: dict[str, Any]
    instance_env: dict[str, str]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the environment.

        Raises:
            KeyError: FRONT_EVENTS or FRONT_LOGS is not set.
            ValueError: a value that cannot be, or knobs that cannot be together.
        """
        knobs = knobs_of(env)
        driver = env.get("FRONT_DRIVER", "process")
        if driver not in ("process", "docker"):
            raise ValueError(f"FRONT_DRIVER: '{driver}' is not one of process, docker")
        return cls(
            host=env.get("HOST", "127.0.0.1"),
            port=int(env.get("PORT", "8080")),
            knobs=knobs,
            events=Path(env["FRONT_EVENTS"]),
            logs=Path(env["FRONT_LOGS"]),
            driver=driver,
            command=_json(env, "FRONT_COMMAND", list) or BACKEND,
            container=_json(env, "FRONT_CONTAINER", dict) or {},
            instance_env=instance_env(env, knobs),
        )


def knobs_of(env: Mapping[str, str]) -> Knobs:
    """The knobs, which can be, and can be together.

    Raises:
        ValueError: which cannot, on one line.
    """
    try:
        knobs = Knobs.from_env(env)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{first['loc'][0]}: {first['msg']}") from None
    if contradiction := knobs.contradiction():
        raise ValueError(" - ".join(contradiction))
    return knobs


def _json(env: Mapping[str, str], name: str, kind: type[T]) -> T | None:
    """A variable's JSON; None where it is not set."""
    if name not in env:
        return None
    try:
        value = json.loads(env[name])
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    if not isinstance(value, kind):
        raise ValueError(f"{name} is not a JSON {'object' if kind is dict else kind.__name__}")
    return value


def instance_env(env: Mapping[str, str], knobs: Knobs) -> dict[str, str]:
    """The environment of an instance, but for its HOST and PORT."""
    kept = {name: value for name, value in env.items() if not name.startswith("FRONT_")}
    return {**kept, **in_place_of_the_vm(knobs)}


def in_place_of_the_vm(knobs: Knobs) -> dict[str, str]:
    """What an instance is told of itself where the backend is told of the VM."""
    return {"LAB_WORKERS": "1", "LAB_VM_CPUS": str(knobs.instance_cores)}
