"""The rule about programs that read a Dockerfile otherwise."""

from __future__ import annotations

from ..parse import parse_document
from ..second_opinion import disagreements
from .collected import Report
from .rules import OWN


def check_other_readers(text: str, file: str, report: Report) -> None:
    """Note instructions that dockerfile-parse sees otherwise."""
    name = OWN + "OtherReaders"
    if not report.on(name):
        return
    for found in disagreements(text, parse_document(text, file)):
        report.add(name, f"dockerfile-parse sees other instructions: {found.why}", found.source)
