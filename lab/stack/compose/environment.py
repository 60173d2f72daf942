"""The variables that the Compose file asks for: the knobs, and what follows from them.

    knobs ──> variables ──> compose/as-found.env, compose/recommended.env   (by hand)
                       ├──> the environment of `docker compose`             (the lab)
                       └──> /settings/now.env in each part that has some    (from cell to cell)

Images, and where passwords are, belong to the machine, not to a replica: ``compose/.env``.

    python -m lab.stack.compose.environment        writes both presets' files
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lab import paths
from lab.model.fault import KnobRef, Latency
from lab.model.knobs import TABLE, Knobs, Preset, variable
from lab.model.replica import PORTS_VARIABLE
from lab.stack import nginx, pooler
from lab.stack.monitor import MONITORS, RESERVED

BACKEND_HOST, FIRST_PORT = "vm", 8080
"""Where nginx's container finds the backend's, and the first port that this listens on."""


@dataclass(frozen=True)
class Place:
    """What distinguishes two replicas with the same knobs; each field is a variable.

    The defaults are those of a replica that somebody brings up with Compose alone.

    Args:
        id: marks every container, network and volume, with ``owner``.
        net_prefix: first three numbers of the networks' addresses, from the range reserved for
            benchmarks (198.18.0.0/15, RFC 2544); every replica needs its own.
        evidence: folder that the workers' readings go to, or a volume's name.
        settings: folder whose ``now.env`` overrides what a container was made with, or the
            name of a volume, which stays empty.
        probe_interval: how often the engine probes every part. A probe takes CPU, a connection,
            and a request from the rate limit that all users share, so a lab that measures
            checks for itself and makes this long.
    """

    id: str = "by-hand"
    owner: str = "by-hand"
    net_prefix: str = "198.18.0"
    evidence: str = "evidence"
    settings: str = "settings"
    probe_interval: str = "1s"
    nginx_port: int = 8080
    postgres_port: int = 5432
    pooler_port: int = 6432
    storage_port: int = 4443
    toxiproxy_port: int = 8474
    gcs_proxy_port: int = 4444
    db_proxy_port: int = 5433
    speech_port: int = 8090
    speech_proxy_port: int = 8091

    def as_env(self) -> dict[str, str]:
        """Each field's variable."""
        return {variable(name): str(value) for name, value in asdict(self).items()}


BY_HAND = Place()


def variables(knobs: Knobs, place: Place = BY_HAND, monitored: bool = False) -> dict[str, str]:
    """All variables of the Compose file but images and where passwords are.

    Args:
        monitored: whether a superuser's connection is open beside the application's
            (`lab.stack.postgres` says why Postgres then needs one more).
    """
    return {**knobs.as_env(), **_derived(knobs, monitored), **place.as_env()}


def _derived(knobs: Knobs, monitored: bool) -> dict[str, str]:
    """What follows from the knobs, in the units of the programs that read it."""
    connections = knobs.db_cap + RESERVED + (MONITORS if monitored else 0)
    ports = range(FIRST_PORT, FIRST_PORT + knobs.listeners)
    return {
        **nginx.limits(knobs),
        **nginx.upstream(knobs.balance, [f"{BACKEND_HOST}:{port}" for port in ports]),
        PORTS_VARIABLE: " ".join(map(str, ports)),
        **pooler.settings(knobs),
        "LAB_MAX_CONNECTIONS": str(connections),
        "LAB_VM_MEMORY_BYTES": str(knobs.vm_memory or 0),  # 0: no limit
        "LAB_CLOUDRUN_MEMORY_BYTES": str(knobs.cloudrun_memory),
        "LAB_CLOUDRUN_CORES": str(knobs.instance_cores),
        **_latency("LAB_GCS", KnobRef(knob="gcs_latency"), knobs),
        **_latency("LAB_DB", KnobRef(knob="db_rtt"), knobs),
        **_latency("LAB_SPEECH", KnobRef(knob="speech_latency"), knobs),
    }


def _latency(prefix: str, delay: KnobRef, knobs: Knobs) -> dict[str, str]:
    toxic = Latency(type="latency", delay=delay).attributes(knobs)
    return {f"{prefix}_{name.upper()}_MS": str(value) for name, value in toxic.items()}


HEADER = """\
# The replica {preset}: every variable that compose/compose.yaml asks for.
#
#   docker compose -f compose/compose.yaml --env-file compose/{preset}.env up --wait
#
# Written by `make schema` from lab/model/knobs.py. A variable of your shell goes before one
# in here; where others follow from it, use `lab up --stack compose --set knob=value`.
"""

TITLES = {
    "backend": "Knobs of the backend and the VM",
    "nginx": "nginx: its configuration under nginx/",
    "postgres": "Postgres: connections for the application",
    "pgbouncer": "PgBouncer before it, which profile `pooler` brings up",
    "cloudrun": "An instance on Cloud Run, and when there are how many",
    "run": "How far storage, the database and the speech service are, and who asks for health",
}


def env_file(preset: Preset) -> str:
    """A preset as its file under ``compose/`` holds it."""
    knobs = Knobs.preset(preset)
    env = knobs.as_env()
    groups = {
        title: {row.variable: env[row.variable] for row in TABLE if row.part == part}
        for part, title in TITLES.items()
    }
    groups["What follows from the knobs (times in wall-clock milliseconds)"] = _derived(
        knobs, monitored=False
    )
    groups["This replica's place on the machine"] = BY_HAND.as_env()
    blocks = [f"# {title}\n{_lines(group)}" for title, group in groups.items()]
    return "\n".join([HEADER.format(preset=preset), *blocks])


def _lines(group: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in group.items())


def settings_file(knobs: Knobs, monitored: bool) -> str:
    """The knobs, and what follows from them, as ``compose/with-settings.sh`` reads them.

    Args:
        monitored: as in `variables`.
    """
    values = {**knobs.as_env(), **_derived(knobs, monitored)}
    return _lines({name: shlex.quote(value) for name, value in values.items()})


def main() -> None:
    """Write the files of both presets."""
    folder = paths.data("compose")
    for preset in Preset:
        (folder / f"{preset}.env").write_text(env_file(preset), encoding="utf-8")


if __name__ == "__main__":
    main()
