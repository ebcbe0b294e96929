"""Dockerfile text to instructions. Pure: no files, no images, no graph.

Source: the Dockerfile reference, https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

from .document import Document
from .parse import parse, parse_document

__all__ = ["Document", "parse", "parse_document"]
