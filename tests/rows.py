"""The marker of a test that shows a row of docs/run-step.md's table: ``@row("S78")``, or several of them.

tests/test_docs.py compares the markers with the table, and reads them without running them: write plain strings.
``pytest --row S78`` runs the tests of a row.
"""

from __future__ import annotations

import pytest


def row(*names: str) -> pytest.MarkDecorator:
    """Mark a test as one that shows the rows."""
    return pytest.mark.row(*names)
