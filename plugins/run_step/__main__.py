"""``python -m run_step plan|run``: a request as JSON on stdin, for frontends in other languages.

``plan`` prints the plan as JSON. ``run`` passes the step's output through and exits with its status; with
``--result FILE`` the result is written there as JSON. With ``--request FILE`` the request is read from there, and
stdin is the step's: where it is a terminal and the request wants one, the step's terminal is joined to it. What the
mounts of a RUN instruction stand for is handed over with ``--source NAME=PATH``, ``--secret`` and ``--ssh``, the last
two as docker buildx has them; each may be repeated. Exit 2 is a wrong request, 1 a host that can't. An ordinary user
becomes root of a user namespace first.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from . import documents
from .codec import encode
from .errors import HostError, RequestError
from .executor import LocalExecutor
from .inputs import Inputs, parse_secret
from .request import RunRequest
from .rootless import enter_user_namespace
from .ssh import parse_ssh
from .validation import validate

USAGE = (
    "usage: python -m run_step plan|run [--request FILE] [--result FILE] [--source NAME=PATH] "
    "[--secret id=ID,src=FILE] [--ssh ID[=SOCKET|KEY]] < request.json"
)
_LONGEST = 4000
"""Characters of an error that are told."""

_MANY = ("--source", "--secret", "--ssh")


def _options(argv: list[str]) -> tuple[dict[str, str], dict[str, list[str]]] | None:
    """The options, and those that may be repeated; None for any that are not understood."""
    if not argv or argv[0] not in ("plan", "run") or len(argv) % 2 == 0:
        return None
    pairs = list(zip(argv[1::2], argv[2::2], strict=True))
    many = {name: [value for key, value in pairs if key == name] for name in _MANY}
    options = {name: value for name, value in pairs if name not in many}
    return (options, many) if options.keys() <= {"--request", "--result"} else None


def _inputs(many: dict[str, list[str]]) -> Inputs:
    """Raises RequestError for what is malformed or can't be read."""
    sources = {}
    for text in many["--source"]:
        name, equals, path = text.partition("=")
        if not name or not equals or not os.path.exists(path):
            raise RequestError(f"source {text!r}: the form is NAME=PATH, of something that exists")
        sources[name] = os.path.realpath(path)
    secrets = dict(parse_secret(text, os.environ) for text in many["--secret"])
    agents = dict(parse_ssh(text, os.environ) for text in many["--ssh"])
    return Inputs(sources, secrets, agents)


def _read(path: str | None) -> Any:
    try:
        if path is None:
            return documents.parse(
                documents.read_all(sys.stdin.buffer, "stdin", documents.LARGEST), strict=True
            )
        return documents.parse(documents.read(path, documents.LARGEST), strict=True)
    except OSError as error:
        raise RequestError(f"{path or 'stdin'} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise RequestError(f"{path or 'stdin'} is no JSON: {error}") from None


def _tell(error: Exception) -> None:
    """An error may quote a value of the request, whatever its size."""
    text = str(error)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    print("run_step: " + text.encode(errors="backslashreplace").decode(), file=sys.stderr)  # noqa: T201


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    understood = _options(argv)
    if understood is None:
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    options, many = understood
    executor = LocalExecutor()
    try:
        for warning in enter_user_namespace():
            print(f"run_step: warning: {warning}", file=sys.stderr)  # noqa: T201
        data = _read(options.get("--request"))
        request = RunRequest.from_json(data)
        validate(data)
        inputs = _inputs(many)
        plan = executor.plan(request)
        if argv[0] == "plan":
            json.dump(plan.to_json(), sys.stdout, indent=2)
            print()  # noqa: T201
            return 0
        for warning in plan.warnings:
            print(f"run_step: warning: {warning}", file=sys.stderr)  # noqa: T201
        stdin = 0 if "--request" in options else None
        result = executor.execute(plan, request.rootfs, stdin=stdin, inputs=inputs)
        if "--result" in options:
            with open(options["--result"], "w", encoding="utf-8") as stream:
                json.dump(encode(result), stream)
        if result.exit_status:
            print(f"run_step: {result.describe()}", file=sys.stderr)  # noqa: T201
        return result.exit_status
    except RequestError as error:
        _tell(error)
        return 2
    except (HostError, OSError) as error:
        _tell(error)
        return 1
    finally:
        executor.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
