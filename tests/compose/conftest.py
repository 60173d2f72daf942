"""The engine and the replica's images, for the tests that are marked ``compose``."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from testcontainers.core.config import testcontainers_config

from lab.stack import ownership
from lab.stack.compose import engine, resources


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
    ownership.remove(folder)
