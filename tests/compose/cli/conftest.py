"""The command line in this process."""

from tests.cli_fixture import lab

__all__ = ["lab"]
