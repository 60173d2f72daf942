"""How fast a cell may run: the word for a speed that is chosen, and the bounds of all speeds."""

from __future__ import annotations

AUTO = "auto"
"""In place of a speed: for each cell the highest that stays true on this machine."""

MAX_SPEED = 50.0
STEP = 0.5
"""Chosen speeds are multiples of it."""
