"""The engine and the replica's images, for the tests that are marked ``compose``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import docker
import pytest

from lab.errors import MissingComponent
from lab.stack.compose import engine, images


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """The engine, with Compose and every image there; else the test is skipped.

    LAB_REQUIRE_COMPOSE=1 lets it fail instead.
    """
    try:
        connected = engine.connect()
        engine.compose_version()
        images.require(connected)
    except MissingComponent as error:
        if os.environ.get("LAB_REQUIRE_COMPOSE") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield connected
    connected.close()
