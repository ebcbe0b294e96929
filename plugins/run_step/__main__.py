"""``python -m run_step plan|run``: a request as JSON on stdin, for frontends in other languages.

``plan`` prints the plan as JSON. ``run`` passes the step's output through and exits with its status; with
``--result FILE`` the result is written there as JSON. With ``--request FILE`` the request is read from there, and
stdin is the step's: where it is a terminal and the request wants one, the step's terminal is joined to it. Exit 2 is
a wrong request, 1 a host that can't. An ordinary user becomes root of a user namespace first.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from .codec import encode
from .errors import HostError, RequestError
from .executor import LocalExecutor
from .request import RunRequest
from .rootless import enter_user_namespace
from .validation import validate

USAGE = "usage: python -m run_step plan|run [--request FILE] [--result FILE] < request.json"


def _options(argv: list[str]) -> dict[str, str] | None:
    """The words of the command line; None for any that are not understood."""
    if not argv or argv[0] not in ("plan", "run") or len(argv) % 2 == 0:
        return None
    options = dict(zip(argv[1::2], argv[2::2], strict=True))
    return options if options.keys() <= {"--request", "--result"} else None


def _read(path: str | None) -> Any:
    try:
        if path is None:
            return json.load(sys.stdin)
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path or 'stdin'} is no JSON: {error}") from None
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}") from None


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    options = _options(argv)
    if options is None:
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    executor = LocalExecutor()
    try:
        for warning in enter_user_namespace():
            print(f"run_step: warning: {warning}", file=sys.stderr)  # noqa: T201
        data = _read(options.get("--request"))
        request = RunRequest.from_json(data)
        validate(data)
        plan = executor.plan(request)
        if argv[0] == "plan":
            json.dump(plan.to_json(), sys.stdout, indent=2)
            print()  # noqa: T201
            return 0
        for warning in plan.warnings:
            print(f"run_step: warning: {warning}", file=sys.stderr)  # noqa: T201
        result = executor.execute(plan, request.rootfs, stdin=0 if "--request" in options else None)
        if "--result" in options:
            with open(options["--result"], "w", encoding="utf-8") as stream:
                json.dump(encode(result), stream)
        if result.exit_status:
            print(f"run_step: {result.describe()}", file=sys.stderr)  # noqa: T201
        return result.exit_status
    except RequestError as error:
        print(f"run_step: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (HostError, OSError) as error:
        print(f"run_step: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        executor.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
