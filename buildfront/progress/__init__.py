"""Subscribers to the engine's events: the display of a running build, for people and for programs."""

from __future__ import annotations

from .display import MODES, Progress, create

__all__ = ["MODES", "Progress", "create"]
