"""The console script. Hot path: nothing is imported before the command is known."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cli.program import Recorder


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        _main()
    except KeyboardInterrupt:  # before the command line was there to tell of it
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _main() -> None:
    argv = sys.argv[1:]
    remember: Recorder | None = None
    if "build" in argv[:3]:
        from .replay_cache import record, replay

        status = replay(argv)
        if status is not None:
            sys.exit(status)
        remember = record
    from .cli import run

    status = run(argv, remember)
    import signal  # loaded by the command line already

    # The work is done. An interpreter that is being finalised has no handlers any more, and would die of these signals.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(status)


if __name__ == "__main__":
    main()
