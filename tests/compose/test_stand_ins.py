"""The replica's images on an engine: what Compose relies on, official or not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from docker.errors import ContainerError

from lab.images import build
from lab.images.catalogue import OFFICIAL
from lab.images.engine import RECIPE, STANDS_FOR, VENDOR_LABEL, architecture
from lab.stack.compose import images
from lab.stack.compose.images import ORIGIN_LABEL
from tests.live import wait_until

pytestmark = pytest.mark.compose

CONFINED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "network_mode": "none",
    "init": True,
}
"""How Compose confines every container; and without a network."""

NAMES = {image.name: image.variable for image in OFFICIAL} | {"backend": "LAB_BACKEND_IMAGE"}


def run(client: docker.DockerClient, name: str, *command: str, **options: Any) -> str:
    """What a command prints, on either stream, in a container that is confined and removed."""
    tag = images.tags()[NAMES[name]]
    said: bytes = client.containers.run(
        tag, list(command), remove=True, stderr=True, **{**CONFINED, **options}
    )
    return said.decode()


def config(client: docker.DockerClient, name: str) -> dict[str, Any]:
    """What an image is set to."""
    found: dict[str, Any] = client.images.get(images.tags()[NAMES[name]]).attrs["Config"]
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "nginx",
            {
                "Entrypoint": ["/docker-entrypoint.sh"],
                "Cmd": ["nginx", "-g", "daemon off;"],
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGQUIT",
            },
        ),
        (
            "postgres",
            {
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["postgres"],
                "ExposedPorts": {"5432/tcp": {}},
                "StopSignal": "SIGINT",
                "Volumes": {"/var/lib/postgresql": {}},
            },
        ),
        ("pgbouncer", {"ExposedPorts": {"5432/tcp": {}}}),
        (
            "fake-gcs-server",
            {
                "Entrypoint": ["/bin/fake-gcs-server", "-data", "/data"],
                "ExposedPorts": {"4443/tcp": {}},
            },
        ),
        (
            "toxiproxy",
            {
                "Entrypoint": ["/toxiproxy"],
                "Cmd": ["-host=0.0.0.0"],
                "ExposedPorts": {"8474/tcp": {}},
            },
        ),
        (
            "backend",
            {
                "User": "10001:10001",
                "Cmd": ["python", "-m", "lab.services.backend"],
                "ExposedPorts": {"8080/tcp": {}},
            },
        ),
    ],
)
def test_an_image_is_set_as_compose_expects(
    name: str, expected: dict[str, Any], client: docker.DockerClient
) -> None:
    found = config(client, name)
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_an_image_that_is_not_official_says_what_it_is(
    name: str, client: docker.DockerClient
) -> None:
    labels = config(client, name)["Labels"] or {}
    official = {image.name: image.official for image in OFFICIAL}.get(name)
    if images.tags()[NAMES[name]] == official:
        assert ORIGIN_LABEL not in labels
    else:
        assert labels[ORIGIN_LABEL] == ("stand-in" if official else "built")
        assert labels.get(STANDS_FOR, official) == official or name == "backend"
        assert (labels[VENDOR_LABEL], len(labels[RECIPE])) == ("replica-lab", 16)


def test_a_stand_in_that_is_made_from_the_same_is_left_as_it_is(
    client: docker.DockerClient,
) -> None:
    toxiproxy = OFFICIAL[-1]
    build.stand_in(toxiproxy, architecture(), None)
    first = client.images.get(toxiproxy.stand_in).id
    build.stand_in(toxiproxy, architecture(), None)
    assert client.images.get(toxiproxy.stand_in).id == first


def test_nginx_fills_in_what_is_defined_and_passes_the_filter(
    client: docker.DockerClient,
) -> None:
    template = "${LAB_A} ${OTHER} ${LAB_NONE} $remote_addr"
    script = f"""
        mkdir -p /in/deep && echo '{template}' >/in/deep/site.conf.template
        cd /docker-entrypoint.d && ./20-envsubst-on-templates.sh >&2 && cat /out/deep/site.conf
    """
    environment = {
        "NGINX_ENVSUBST_TEMPLATE_DIR": "/in",
        "NGINX_ENVSUBST_OUTPUT_DIR": "/out",
        "NGINX_ENVSUBST_FILTER": "^LAB_",
        "LAB_A": "a value",
        "OTHER": "other",
    }
    said = run(
        client,
        *("nginx", "sh", "-c", script),
        user="101:101",
        environment=environment,
        tmpfs={"/in": "uid=101", "/out": "uid=101"},
    )
    assert said.splitlines()[-1] == "a value ${OTHER} ${LAB_NONE} $remote_addr"


def test_nginx_can_be_root_and_has_the_modules_that_the_lab_uses(
    client: docker.DockerClient,
) -> None:
    said = run(client, "nginx", "nginx", "-V")
    assert "nginx version: nginx/1.31.3" in said
    assert "--with-http_realip_module" in said
    tmpfs = {"/run": "", "/var/cache/nginx": ""}
    assert "test is successful" in run(client, "nginx", "nginx", "-t", tmpfs=tmpfs, cap_drop=[])
    assert run(client, "nginx", "id", "nginx").startswith("uid=101(nginx) gid=101(nginx)")


@pytest.fixture
def data(client: docker.DockerClient) -> Iterator[str]:
    """A volume for Postgres."""
    volume = client.volumes.create(f"test-stand-ins-{secrets.token_hex(4)}")
    yield volume.name
    volume.remove(force=True)


POSTGRES: dict[str, Any] = {
    "user": "999:999",
    "tmpfs": {"/var/run/postgresql": "uid=999", "/tmp": "mode=1777"},  # noqa: S108 - in a container
}


def test_postgres_without_a_password_says_so(client: docker.DockerClient, data: str) -> None:
    volumes = [f"{data}:/var/lib/postgresql"]
    with pytest.raises(ContainerError, match="POSTGRES_PASSWORD to a non-empty value"):
        run(client, "postgres", volumes=volumes, **POSTGRES)


def test_postgres_makes_its_database_once(client: docker.DockerClient, data: str) -> None:
    init = "#!/bin/sh\npsql -U boss -d school -qc 'CREATE TABLE pupils AS SELECT 7 AS id'"
    environment = {
        "POSTGRES_PASSWORD": "it's secret",
        "POSTGRES_USER": "boss",
        "POSTGRES_DB": "school",
        "POSTGRES_INITDB_ARGS": "--auth=scram-sha-256 --locale=C --no-sync",
        "INIT": init,
    }
    # As somebody would lay a script there by a mount, which needs a file of this machine.
    script = 'echo "$INIT" >/docker-entrypoint-initdb.d/1.sh; exec docker-entrypoint.sh "$@"'
    options = {
        **CONFINED,
        **POSTGRES,
        "tmpfs": {**POSTGRES["tmpfs"], "/docker-entrypoint-initdb.d": "uid=999"},
        "volumes": [f"{data}:/var/lib/postgresql"],
        "environment": environment,
        "entrypoint": ["bash", "-c", script, "bash"],
    }
    ask = ["psql", "-h127.0.0.1", "-Uboss", "-dschool", "-Atc", "SELECT id, version() FROM pupils"]
    command = ["postgres", "-cmax_connections=7", "-clog_line_prefix=%m [%p] %e "]
    tag = images.tags()["LAB_POSTGRES_IMAGE"]
    for time in ("made", "there already"):
        container = client.containers.run(tag, command, detach=True, **options)
        try:
            ready = ["pg_isready", "-q", "-h127.0.0.1", "-Uboss", "-dschool"]
            wait_until(lambda: container.exec_run(ready).exit_code == 0)  # noqa: B023
            password = {"PGPASSWORD": "it's secret"}
            answer = container.exec_run(ask, environment=password).output.decode()
            assert answer.startswith("7|PostgreSQL 18.")
            assert container.exec_run(ask, environment={"PGPASSWORD": "wrong"}).exit_code
            container.stop(timeout=20)
            said = container.logs().decode()
            assert ("PostgreSQL init process complete" in said) == (time == "made")
            assert container.wait()["StatusCode"] == 0
        finally:
            container.remove(force=True, v=True)


def test_pgbouncer_and_what_its_script_needs_are_there(client: docker.DockerClient) -> None:
    said = run(client, "pgbouncer", "-c", "pgbouncer --version", entrypoint="sh", user="70:70")
    assert said.startswith("PgBouncer 1.")
    assert run(client, "pgbouncer", "-d", "/", entrypoint="test", user="70:70") == ""


def test_the_storage_image_has_what_compose_needs(client: docker.DockerClient) -> None:
    said = run(client, "fake-gcs-server", "-c", "stat -c %a /tmp; which wget", entrypoint="sh")
    mode, wget = said.split()
    assert mode == "1777"
    assert wget.endswith("bin/wget")


def test_toxiproxy_has_its_client(client: docker.DockerClient) -> None:
    assert "toxiproxy-server version 2.12.0" in run(client, "toxiproxy", "-version")
    said = run(client, "toxiproxy", "--version", entrypoint="/toxiproxy-cli")
    assert said.startswith("toxiproxy-cli version ")


def test_the_backend_imports_all_it_needs_and_compiles_nothing(
    client: docker.DockerClient,
) -> None:
    program = """
import importlib.util, os, sys
import lab.services.backend.__main__, lab.services.backend.main
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
sources = [file for file in files if file.endswith(".py")]
late = [file for file in sources if not os.path.exists(importlib.util.cache_from_source(file))]
print(len(sources) > 500, late, os.getuid())
"""
    assert run(client, "backend", "python", "-c", program) == "True [] 10001\n"


def test_the_backend_holds_no_more_than_it_imports(client: docker.DockerClient) -> None:
    said = run(client, "backend", "ls", "/app", "/app/lab", "/evidence")
    assert said.split() == [
        "/app:",
        "lab",
        "/app/lab:",
        "__init__.py",
        "__pycache__",
        "model",
        "services",
        "/evidence:",
    ]
    assert run(client, "backend", "stat", "-c", "%a %u", "/evidence") == "1777 10001\n"
