"""Where the console script under test is."""

from __future__ import annotations

import sys
from pathlib import Path

BUILDFRONT = str(Path(sys.executable).parent / "buildfront")
