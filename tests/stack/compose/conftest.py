"""The fixtures of the tests that are marked ``compose``, here too."""

from tests.compose.conftest import client

__all__ = ["client"]
