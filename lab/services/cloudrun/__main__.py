"""``python -m lab.services.cloudrun``: the gateway as a process of its own.

    (nothing)    serve until SIGTERM or SIGINT; a second one ends instances at once
    --check      may instances be limited here? Makes one cgroup, and removes it
    --calibrate  are the limits of an instance what the knobs say? Prints one JSON object
    --sweep      remove what killed gateways have left, as noted in FRONT_LOGS

Exit codes: 0 after an orderly end, 2 a setting is not allowed, 3 not permitted here, the
address is taken, or something is left over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.services.cloudrun import calibrate, cgroup, process
from lab.services.cloudrun.gateway import (
    BACKLOG,
    EventFile,
    GatewayServer,
    GatewaySettings,
    in_place_of_the_vm,
    knobs_of,
)
from lab.services.cloudrun.instance import Driver, DriverError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the flags say; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab.services.cloudrun")
    parser.add_argument("--check", action="store_true", help="may instances be limited here?")
    parser.add_argument("--sweep", action="store_true", help="remove what killed gateways left")
    parser.add_argument("--calibrate", action="store_true", help="are its limits as they should?")
    flags = parser.parse_args(arguments)
    try:
        if flags.check:
            knobs = knobs_of(os.environ)
            logs = os.environ.get("FRONT_LOGS")
            cgroup.check(knobs.cloudrun_memory, knobs.cloudrun_cpus, Path(logs) if logs else None)
            return 0
        if flags.sweep:
            for name in process.sweep(Path(os.environ["FRONT_LOGS"])):
                print(name)  # noqa: T201
            return 0
        settings = GatewaySettings.from_env(os.environ)
        if flags.calibrate:
            print(json.dumps(try_limits(settings)))  # noqa: T201
            return 0
        return serve(settings)
    except ValueError as error:
        return _complain(str(error), 2)
    except (cgroup.NotPermittedError, DriverError) as error:
        return _complain(str(error), 3)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        return _complain(f"{error.filename or 'HOST:PORT'}: {why}", 3)


def try_limits(settings: GatewaySettings) -> dict[str, float | bool]:
    """Calibrate with the driver that the settings name; see `calibrate.calibrate`."""
    arguments = ["-m", calibrate.BURDEN]
    burdened = settings.model_copy(
        update={
            "command": [sys.executable, *arguments],
            "container": {**settings.container, "command": ["python", *arguments]},
        }
    )
    return asyncio.run(calibrate.calibrate(make_driver(burdened), settings.knobs))


def make_driver(settings: GatewaySettings) -> Driver:
    """The driver that the settings name, after checking that it can work.

    Raises:
        NotPermittedError: processes cannot be limited here.
        DriverError: no Docker engine answers.
    """
    memory, cpus = settings.knobs.cloudrun_memory, settings.knobs.cloudrun_cpus
    if settings.driver == "docker":
        from lab.services.cloudrun import containers  # imports the SDK only if it is needed

        containers.sweep(settings.container.get("labels", {}))
        environment = {
            **settings.container.get("environment", {}),
            **in_place_of_the_vm(settings.knobs),
        }
        made_from = {**settings.container, "environment": environment}
        return containers.ContainerDriver(made_from, memory, settings.logs)
    process.sweep(settings.logs)
    cgroup.check(memory, cpus, settings.logs)
    return process.ProcessDriver(settings.command, settings.instance_env, memory, settings.logs)


def serve(settings: GatewaySettings) -> int:
    """Serve to the end; the exit code says whether anything is left over."""
    driver = make_driver(settings)
    with (
        settings.events.open("a", encoding="utf-8") as file,
        socket.create_server((settings.host, settings.port), backlog=BACKLOG) as listener,
    ):
        stuck = asyncio.run(_serve(settings, driver, EventFile(file), listener))
    return _complain(f"left over: {', '.join(stuck)}", 3) if stuck else 0


async def _serve(
    settings: GatewaySettings, driver: Driver, log: EventFile, listener: socket.socket
) -> list[str]:
    server = GatewayServer(settings.knobs, driver, log)
    server.stop_on_signals()
    port = listener.getsockname()[1]
    files = settings.driver == "docker" or process.files_count_as_memory()
    log.write("serving", port=port, driver=settings.driver, files_are_memory=files)
    await server.run_on(listener)
    log.write("closed", stuck=server.stuck)
    return server.stuck


def _complain(what: str, code: int) -> int:
    print(f"front: {what}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
