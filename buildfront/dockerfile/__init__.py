"""Dockerfile text to instructions. Pure: no files, no images, no graph.

Source: the Dockerfile reference, https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

from .parse import parse

__all__ = ["parse"]
