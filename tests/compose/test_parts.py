"""The service, and its storage client, against single real parts in containers.

service ──────────────> Postgres        db_cap connections for the plain role
   └────> Toxiproxy ──> fake-gcs-server
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import docker
import psycopg2
import pytest
import requests
from google.api_core.exceptions import GoogleAPIError
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from lab.faults.network import Toxiproxy
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.replica import APP_ROLE, BUCKET, DATABASE
from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.thread_pool import ThreadPools
from lab.services.backend.core.uploads import Timing
from lab.services.backend.services.audio_upload import AudioUploader
from lab.services.backend.settings import BackendSettings
from lab.stack import ports
from lab.stack.backend import Backend
from lab.stack.compose import resources
from lab.stack.monitor import count_refused
from lab.stack.ownership import Ownership
from lab.stack.storage import Bucket
from tests.compose import parts
from tests.live import causes, make_fault, uploads, wait_until

pytestmark = pytest.mark.compose

DB_CAP = 3
SPEED = 20
SIZE = 10_000
LARGE = 4 * 1024**2  # still one request of the library's
HOLD = {"speed": SPEED, "db_session": "hold", "gcs_call": "executor"}


@pytest.fixture(scope="module")
def labels(owned: Ownership) -> dict[str, str]:
    return {resources.ID_LABEL: owned.id, resources.OWNER_LABEL: json.dumps(asdict(owned))}


@pytest.fixture(scope="module")
def network(client: docker.DockerClient, labels: dict[str, str]) -> Iterator[Network]:
    with parts.network(client, labels) as made:
        yield made


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


class Database:
    """Postgres in a container, with ``DB_CAP`` connections for the plain role."""

    def __init__(self, container: DockerContainer, port: int) -> None:
        self._container = container
        where = f"{ports.HOST}:{port}/{DATABASE}"
        self.dsn = f"postgresql://{APP_ROLE}:{parts.PASSWORD}@{where}"

    def refused(self) -> int:
        """Connections refused with 53300, ever, by its log."""
        return count_refused(b"".join(self._container.get_logs()).splitlines())


@pytest.fixture(scope="module")
def database(network: Network, labels: dict[str, str], secrets: Path) -> Iterator[Database]:
    [port] = ports.free(1)
    knobs = Knobs(db_cap=DB_CAP)
    with parts.service("postgres", knobs, network, {5432: port}, labels, secrets) as container:
        yield Database(container, port)


NOWHERE = f"http://{ports.HOST}:1"
"""The speech service's address, where nothing is assessed."""


@dataclass
class Storage:
    """fake-gcs-server and Toxiproxy in containers: straight, through the proxy, and its API."""

    bucket: Bucket
    through: str
    toxiproxy: Toxiproxy

    @contextmanager
    def injected(self, fault: Fault, speed: float = SPEED) -> Iterator[None]:
        with self.toxiproxy.injected([fault], Knobs(speed=speed)):
            yield


@pytest.fixture(scope="module")
def storage(network: Network, labels: dict[str, str], secrets: Path) -> Iterator[Storage]:
    direct, api, proxy = ports.free(3)
    with (
        parts.service("fake-gcs-server", Knobs(), network, {4443: direct}, labels, secrets),
        parts.service("toxiproxy", Knobs(), network, {8474: api, 4443: proxy}, labels, secrets),
    ):
        found = Storage(
            bucket=Bucket(f"http://{ports.HOST}:{direct}"),
            through=f"http://{ports.HOST}:{proxy}",
            toxiproxy=Toxiproxy(f"http://{ports.HOST}:{api}"),
        )
        found.toxiproxy.wait_ready()
        wait_until(found.bucket.answers)
        yield found


@contextmanager
def service(
    folder: Path, database: Database, storage: Storage, settings: Mapping[str, Any]
) -> Iterator[str]:
    """The service as a process, at these settings; its address."""
    [port] = ports.free(1)
    backend = Backend(folder, port, database.dsn, storage.through, NOWHERE, BUCKET)
    try:
        backend.start(Knobs().with_settings(settings))
        yield backend.url
    finally:
        backend.stop()


@pytest.mark.usefixtures("database", "storage")
def test_ports_are_published_on_loopback_alone(
    client: docker.DockerClient, owned: Ownership
) -> None:
    hosts = {
        binding["HostIp"]
        for container in resources.containers(client, owned.id)
        for bindings in container.attrs["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    assert hosts == {ports.HOST}


def test_a_plain_role_gets_exactly_db_cap_connections(database: Database) -> None:
    before = database.refused()
    with ExitStack() as opened:
        for _ in range(DB_CAP):
            opened.enter_context(closing(psycopg2.connect(database.dsn, connect_timeout=5)))
        with pytest.raises(psycopg2.OperationalError, match="remaining connection slots"):
            psycopg2.connect(database.dsn, connect_timeout=5)
        wait_until(lambda: database.refused() == before + 1)


def test_past_the_cap_the_database_refuses_at_once(
    tmp_path: Path, database: Database, storage: Storage
) -> None:
    before = database.refused()
    settings = {**HOLD, "pool_timeout": "60 s"}
    with (
        service(tmp_path, database, storage, settings) as url,
        storage.injected(make_fault("gcs", delay="40 s")),
    ):
        answers = uploads(url, DB_CAP + 3)
    assert causes(answers) == {"ok": DB_CAP, "db_refused": 3}
    wait_until(lambda: database.refused() == before + 3)


def test_past_the_pool_the_service_gives_up_and_the_database_refuses_nobody(
    tmp_path: Path, database: Database, storage: Storage
) -> None:
    before = database.refused()
    settings = {**HOLD, "pool_size": 1, "max_overflow": DB_CAP - 2, "pool_timeout": "4 s"}
    with (
        service(tmp_path, database, storage, settings) as url,
        storage.injected(make_fault("gcs", delay="40 s")),
    ):
        answers = uploads(url, DB_CAP + 1)
    assert causes(answers) == {"ok": DB_CAP - 1, "pool_timeout": 2}
    assert database.refused() == before


class Client:
    """The service's own storage client."""

    def __init__(self, storage: Storage, speed: float) -> None:
        knobs = Knobs(speed=speed)
        self.gauges = Gauges()
        self._pools = ThreadPools(knobs)
        settings = BackendSettings(knobs, "", storage.through, NOWHERE, BUCKET, None)
        self._uploader = AudioUploader(settings, self._pools, self.gauges)

    def attempts(self, size: int = SIZE) -> int:
        """Requests that carried an object of that size: the library also asks after the bucket
        in a thread of its own, and a request carries some hundred bytes beside the object."""
        return self.gauges.gcs_bytes // size

    def upload(self, name: str, size: int = SIZE) -> float:
        """Upload one object; the seconds that it took."""
        start = time.perf_counter()
        asyncio.run(self._uploader.upload_audio(name, b"\0" * size, "audio/wav", Timing()))
        return time.perf_counter() - start


def test_storage_is_as_far_as_its_answer_whatever_the_size(storage: Storage) -> None:
    client = Client(storage, SPEED)
    with storage.injected(make_fault("gcs", delay="10 s")):
        assert client.upload("far", SIZE) >= 10 / SPEED
        assert client.attempts() == 1
        assert client.upload("far and large", LARGE) >= 10 / SPEED
    assert client.attempts(LARGE) == 1


def test_what_is_late_is_the_answer_and_not_the_object(storage: Storage) -> None:
    client = Client(storage, speed=1)
    with ThreadPoolExecutor(1) as pool:
        with storage.injected(make_fault("gcs", delay="50 s"), speed=1):
            sent = pool.submit(client.upload, "late")
            wait_until(lambda: "late" in storage.bucket.objects())
            assert not sent.done()
        sent.result()  # the proxy lets the answer go when its toxic is removed
    assert client.attempts() == 1


RESET = Fault.model_validate(
    {
        "fault": "reset",
        "about": "every connection is reset when storage is to answer",
        "proxy": "gcs",
        "toxics": [{"type": "reset_peer", "stream": "downstream", "after": "0 s"}],
    }
)


def test_a_reset_is_tried_again_and_every_attempt_counted(storage: Storage) -> None:
    client = Client(storage, speed=5)
    with ThreadPoolExecutor(1) as pool:
        with storage.injected(RESET):
            sent = pool.submit(client.upload, "again")
            wait_until(lambda: client.attempts() >= 3)
        sent.result()
    assert storage.bucket.objects().count("again") == 1


def test_storage_that_is_down_is_an_error_after_its_retries(storage: Storage) -> None:
    client = Client(storage, speed=50)
    with (
        storage.injected(make_fault("gcs", down=True)),
        pytest.raises((GoogleAPIError, requests.RequestException)),
    ):
        client.upload("never")
    assert client.attempts() > 1
    assert "never" not in storage.bucket.objects()
