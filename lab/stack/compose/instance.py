"""What the front makes an instance from: the service of the Compose file that nobody starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SERVICE = "instance"
PROFILE = "cloudrun"
NETWORK = "near"
FRONT_LABEL = "replica-lab.front"
"""The front's own label of each instance."""

_AS_THEY_ARE = (
    "image",
    "user",
    "environment",
    "init",
    "read_only",
    "cap_drop",
    "security_opt",
    "pids_limit",
)


def arguments(config: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of the SDK's `containers.create`, but for those that are the front's.

    Its size, its temporary files, its port and its name the front sets.

    Args:
        config: the project as ``docker compose config --format json`` gives it.
        labels: of the replica, by which the lab finds all that it has.
    """
    service = config["services"][SERVICE]
    logging = service["logging"]
    return {
        **{name: service[name] for name in _AS_THEY_ARE},
        "labels": dict(labels),
        "network": config["networks"][NETWORK]["name"],
        "volumes": {
            each["source"]: {"bind": each["target"], "mode": "rw"} for each in service["volumes"]
        },
        "log_config": {"type": logging["driver"], "config": logging["options"]},
    }


def name_of(container: Any) -> str:
    """An instance's name as the front's log has it: ``instance-3``."""
    return str(container.name).removeprefix(f"{FRONT_LABEL.replace('.', '-')}-").partition("-")[2]
