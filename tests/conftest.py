"""One real replica of each stack for all tests that need one; each brings it to its settings."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import hypothesis
import pytest

from lab.errors import LabError
from lab.stack.compose import engine, images
from lab.stack.compose.stack import ComposeStack
from lab.stack.embedded import EmbeddedStack

for _shared in ("tests.replica", "tests.stack.cloudrun"):
    pytest.register_assert_rewrite(_shared)  # before they are imported

from tests.replica import Live  # noqa: E402

ENGINE = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
"""Where the engine is, if it is not in the usual place."""


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C reach what the tests start, and give processes side by side a folder each.

    A shell makes what it runs in the background ignore SIGINT, and children inherit that; a
    lab that was started so ignores it too, as it should. No example of a property is timed:
    how long one takes says more of the machine.
    """
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        _temporary_folder(config)


def _temporary_folder(config: pytest.Config) -> None:
    """Replicas are found in the temporary folder; a test's own labs shall find its own."""
    folder = Path(tempfile.mkdtemp(prefix="lab-tests-"))
    folder.chmod(0o755)  # one test is somebody else
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together where processes run them side by side (``make test``).

    A file's tests do, as they share what its fixtures start; and all that need containers,
    as some of them look at everything that the lab has on the engine. The long ones begin.
    """
    for item in items:
        together = "compose" if item.get_closest_marker("compose") else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(together))
    items.sort(key=_turn)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run side by side what was to stay together: an xdist that groups says so."""
    alone = [item.nodeid for item in session.items if "@" not in item.nodeid]
    if alone and hasattr(session.config, "workerinput"):
        raise pytest.UsageError(f"pytest-xdist did not group {alone[0]}")


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("compose"):
        return 0
    return 1 if item.get_closest_marker("long") else 2


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let only tests that need containers see the engine.

    Each lab that starts ends what killed labs left, there too: also what a test of that has
    just left on purpose in another process.
    """
    if item.get_closest_marker("compose"):
        os.environ.pop("DOCKER_HOST", None)
        os.environ.update(ENGINE)
    else:
        os.environ["DOCKER_HOST"] = "unix:///nonexistent"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """A real replica; a test calls ``stack.apply`` with a cell of its own."""
    opened = EmbeddedStack(tmp_path_factory.mktemp("results"))
    yield opened
    opened.close()


@pytest.fixture
def live(stack: EmbeddedStack, tmp_path: Path) -> Live:
    """The real replica, brought to settings by calling it; nothing is armed at first."""
    return Live(stack, tmp_path)


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """The engine, with Compose and every image there; else the test is skipped.

    LAB_REQUIRE_COMPOSE=1 lets it fail instead.
    """
    try:
        images.require_stack()
    except LabError as error:
        if os.environ.get("LAB_REQUIRE_COMPOSE") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    connected = engine.connect()
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def contained(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComposeStack]:
    """A real replica in containers; a test applies a cell of its own."""
    opened = ComposeStack(tmp_path_factory.mktemp("results"))
    yield opened
    opened.close()
