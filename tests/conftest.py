"""What holds for every layer: its marker, signals, folders, what stays together.

No part is started here and none is imported, so that unit tests start at once. What a layer
needs to start is in its own conftest:

    unit         pure rooms; nothing is started
    component    one part for itself: Locust, a service, Toxiproxy, a cgroup
    browser      pages of stored runs in Chromium
    replica      a whole replica of processes: nginx, Postgres, storage, uvicorn
    compose      a replica of containers, or the engine
    statistics   simulations that show that an answer is right as often as it claims
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.signal_handlers import Handlers, handlers, restore

for _shared in ("tests.contracts", "tests.live", "tests.live_cloudrun", "tests.replica.trial"):
    pytest.register_assert_rewrite(_shared)  # before they are imported

TESTS = Path(__file__).parent
ENGINE = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
"""Where the engine is, if it is not in the usual place."""

HANDLERS = pytest.StashKey[Handlers]()
"""What this process did on signals as a test began."""


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C reach what the tests start, and give processes side by side a folder each.

    A shell makes what it runs in the background ignore SIGINT, and nohup SIGHUP; children inherit
    that, and a lab that was started so ignores it too, as it should. No example of a property is
    timed: how long one takes says more of the machine.
    """
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        _temporary_folder(config)
    _cache_folder(config)


def _cache_folder(config: pytest.Config) -> None:
    """What an upload costs this machine is not known, and what tests measure is kept nowhere."""
    folder = Path(tempfile.mkdtemp(prefix="lab-cache-"))
    os.environ["XDG_CACHE_HOME"] = str(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def _temporary_folder(config: pytest.Config) -> None:
    """Replicas are found in the temporary folder; a test's own labs shall find its own."""
    folder = Path(tempfile.mkdtemp(prefix="lab-tests-"))
    folder.chmod(0o755)  # one test is somebody else
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its layer, and say which stay together where they run side by side.

    A file's tests do, as they share what its fixtures start, if they do not say that they may be
    split; and all that need containers, as some of them look at everything that the lab has on
    the engine. The long ones begin.
    """
    for number, item in enumerate(items):
        item.add_marker(item.path.relative_to(TESTS).parts[0])
        together = "compose" if item.get_closest_marker("compose") else item.nodeid.split("::")[0]
        if split := item.get_closest_marker("split"):
            together += f" {number % split.args[0]}"
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
    item.stash[HANDLERS] = handlers()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves another handler of a signal: what is ignored is inherited.

    A command that a later test starts and interrupts would then not hear it.
    """
    yield
    before, after = item.stash[HANDLERS], handlers()
    restore(before)
    assert after == before, f"{item.nodeid} leaves other handlers of signals"
