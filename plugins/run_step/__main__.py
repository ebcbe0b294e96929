"""``python -m run_step plan|run``: a request as JSON on stdin, for frontends in other languages.

``plan`` prints the plan as JSON. ``run`` passes the step's output through and exits with its status; with
``--result FILE`` the result is written there as JSON. Exit 2 is a wrong request, 1 a host that can't.
"""

from __future__ import annotations

import json
import sys

from .codec import encode
from .errors import HostError, RequestError
from .executor import LocalExecutor
from .request import RunRequest
from .validation import validate

USAGE = "usage: python -m run_step plan|run [--result FILE] < request.json"


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    if (
        not argv
        or argv[0] not in ("plan", "run")
        or len(argv) not in (1, 3)
        or (len(argv) == 3 and argv[1] != "--result")
    ):
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    executor = LocalExecutor()
    try:
        try:
            data = json.load(sys.stdin)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"stdin is no JSON: {error}") from None
        request = RunRequest.from_json(data)
        validate(data)
        plan = executor.plan(request)
        if argv[0] == "plan":
            json.dump(plan.to_json(), sys.stdout, indent=2)
            print()  # noqa: T201
            return 0
        for warning in plan.warnings:
            print(f"run_step: warning: {warning}", file=sys.stderr)  # noqa: T201
        result = executor.execute(plan, request.rootfs)
        if len(argv) == 3:
            with open(argv[2], "w", encoding="utf-8") as stream:
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
