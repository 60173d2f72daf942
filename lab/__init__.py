"""The replica lab: a local copy of an upload service that fails as production does."""

__version__ = "0.1.0"
