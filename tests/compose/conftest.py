"""The engine and the replica's images, for the tests that are marked ``compose``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import docker
import pytest
from testcontainers.core.config import testcontainers_config

from lab.errors import LabError
from lab.stack import ownership
from lab.stack.compose import engine, images, resources
from lab.stack.compose.stack import ComposeStack


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
    client: docker.DockerClient,  # noqa: ARG001 - skips where there is no engine
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComposeStack]:
    """A real replica in containers; a test applies a cell of its own."""
    opened = ComposeStack(tmp_path_factory.mktemp("results"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def owned(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ownership.Ownership]:
    """Whose labels and marker make what a module starts end with it.

    Also where the tests are killed: then the next lab, or `lab down`, ends it, as it does
    with what another lab has left. testcontainers' own reaper, Ryuk, is left out: it is an
    image of its own, and holds the engine's socket in a container.
    """
    folder, mine = ownership.claim(tmp_path_factory.mktemp("results"), stack="compose")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testcontainers_config, "ryuk_disabled", True)
        patch.setenv(ownership.MARKER, mine.id)
        if host := engine.host():
            patch.setenv("DOCKER_HOST", host)
        yield mine
    resources.remove(client, mine.id)
    ownership.remove(folder, mine)
