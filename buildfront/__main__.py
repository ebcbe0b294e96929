"""The console script. Hot path: nothing is imported before the command is known."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        _main()
    except KeyboardInterrupt:  # before the command line was there to tell of it
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _main() -> None:
    argv = sys.argv[1:]
    if "build" in argv[:3]:
        from .replay_cache import replay

        status = replay(argv)
        if status is not None:
            sys.exit(status)
    from .cli import run

    status = run(argv)
    import signal  # loaded by the command line already

    # What was asked is done and told: an interpreter that takes itself down has no handlers, and would die of these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(status)


if __name__ == "__main__":
    main()
