"""``python -m run_step plan|run``: the plugin for frontends in other languages, one process a step.

A request comes as JSON on stdin. ``plan`` prints the plan as JSON; ``run`` passes the step's output through and exits
with its status. See docs/plugin.md for the options. Exit 2 is a wrong request or plan, 1 a machine that can't.
An ordinary user becomes root of a user namespace first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import documents
from .errors import HostError, RequestError
from .executor import LocalExecutor
from .inputs import Inputs, parse_secret
from .planning import RunPlan
from .request import RunRequest
from .result_file import ResultFile
from .rootless import enter_user_namespace
from .run_result import RunResult
from .ssh import parse_ssh
from .validation import validate

USAGE = """\
usage: python -m run_step plan [--request FILE] [--result FILE] < request.json
       python -m run_step run [--request FILE] [--timeout SECONDS] [--result FILE] [--source NAME=PATH]
                              [--secret id=ID,src=FILE] [--ssh ID[=SOCKET|KEY]] < request.json
       python -m run_step run --plan FILE --rootfs PATH [the same options]"""

_LONGEST = 4000
"""Characters of an error that are shown."""

_ONCE = {
    "plan": ("--request", "--result"),
    "run": ("--request", "--plan", "--rootfs", "--timeout", "--result"),
}
_MANY = ("--source", "--secret", "--ssh")


class _Usage(RequestError):
    """The command line is not understood."""


class _Interrupted(BaseException):
    """A signal asked for the end, and no step is running."""


@dataclass
class _Options:
    """The command line."""

    action: str
    once: dict[str, str] = field(default_factory=dict)
    many: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _MANY})
    timeout: float | None = None


@dataclass(frozen=True)
class _Outcome:
    """How it ended, for the result file. ``kind`` tells the command's failure from ours."""

    kind: str
    exit_status: int
    message: str = ""
    result: RunResult | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON object of the result file; where the step ran, with the fields of its result."""
        ran = {} if self.result is None else self.result.to_json()
        return {"kind": self.kind, "exit_status": self.exit_status, "message": self.message, **ran}


def _parse(argv: list[str]) -> _Options:
    """Raises _Usage that says what is not understood."""
    if not argv or argv[0] not in _ONCE:
        raise _Usage("the first argument is plan or run")
    options = _Options(argv[0])
    if len(argv) % 2 == 0:
        raise _Usage(f"{argv[-1]} has no value")
    for name, value in zip(argv[1::2], argv[2::2], strict=True):
        if name in _MANY and options.action == "run":
            options.many[name].append(value)
        elif name not in _ONCE[options.action]:
            raise _Usage(f"{options.action} has no option {name}")
        elif name in options.once:
            raise _Usage(f"{name} is given twice")
        else:
            options.once[name] = value
    if ("--plan" in options.once) != ("--rootfs" in options.once):
        raise _Usage("--plan and --rootfs go together; a request has its root filesystem in it")
    if "--plan" in options.once and "--request" in options.once:
        raise _Usage("a plan or a request is wanted, not both")
    if "--timeout" in options.once:
        options.timeout = _seconds(options.once["--timeout"])
    return options


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < threading.TIMEOUT_MAX:
        raise _Usage(f"--timeout {text!r}: a number of seconds above 0 is wanted")
    return value


def _result_file(argv: list[str]) -> ResultFile | None:
    """Return the file for the result, wherever it is named: a command line that is wrong has a result too."""
    for name, value in zip(argv[1::2], argv[2::2], strict=False):
        if name == "--result":
            return ResultFile(value)
    return None


class _Stop:
    """The signals that ask for the end.

    They set ``event``, by which a running step is killed; before one runs they raise :class:`_Interrupted` too.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = 0
        self.raises = True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the signals, but for those that are ignored: a caller may have put us in the background."""
        before = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        self.signal = number
        self.event.set()
        if self.raises:
            raise _Interrupted

    def outcome(self, result: RunResult | None = None) -> _Outcome:
        """Return the outcome of a run that a signal has ended."""
        name = signal.Signals(self.signal or signal.SIGINT).name
        return _Outcome("cancelled", 128 + (self.signal or signal.SIGINT), f"stopped by {name}", result)


def _inputs(many: Mapping[str, list[str]]) -> Inputs:
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


def _read(path: str) -> Any:
    """Return the JSON value that a file holds, or stdin for ``-``. Raises RequestError."""
    name = "stdin" if path == "-" else path
    try:
        if path == "-":
            data = documents.read_all(sys.stdin.buffer, name, documents.LARGEST)
        else:
            data = documents.read(path, documents.LARGEST)
        return documents.parse(data, strict=True)
    except OSError as error:
        raise RequestError(f"{name} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise RequestError(f"{name} is not JSON: {error}") from None


def _say(text: str) -> None:
    """Print a line of ours; an error may quote a value of the request, whatever its size."""
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    print("run_step: " + text.encode(errors="backslashreplace").decode(), file=sys.stderr)  # noqa: T201


def _request(path: str) -> RunRequest:
    data = _read(path)
    request = RunRequest.from_json(data)
    validate(data)
    return request


def _work(options: _Options, stop: _Stop, executor: LocalExecutor) -> _Outcome:
    """Plan, or plan and run. Raises RequestError, HostError, OSError, _Interrupted."""
    for warning in enter_user_namespace():
        _say(f"warning: {warning}")
    source = options.once.get("--plan") or options.once.get("--request") or "-"
    if "--plan" in options.once:
        plan, rootfs = RunPlan.from_json(_read(source)), options.once["--rootfs"]
        inputs = _inputs(options.many)
    else:
        request = _request(source)
        inputs = _inputs(options.many)
        plan, rootfs = executor.plan(request), request.rootfs
    if options.action == "plan":
        json.dump(plan.to_json(), sys.stdout, indent=2)
        print(flush=True)  # noqa: T201
        return _Outcome("success", 0)
    for warning in plan.warnings:
        _say(f"warning: {warning}")
    stop.raises = False  # changes of the root filesystem have to be undone
    result = executor.execute(
        plan,
        rootfs,
        stdin=None if source == "-" else 0,
        cancel=stop.event,
        timeout=options.timeout,
        inputs=inputs,
    )
    for warning in result.warnings:
        _say(f"warning: {warning}")
    if result.timed_out:
        return _Outcome("timed-out", result.exit_status or 1, result.describe(), result)
    if result.cancelled:
        return stop.outcome(result)
    if result.exit_status:
        return _Outcome("command-failed", result.exit_status, result.describe(), result)
    return _Outcome("success", 0, "", result)


def _attempt(argv: list[str], stop: _Stop) -> _Outcome:
    """Do what the command line says; whatever goes wrong is an outcome."""
    executor = LocalExecutor()
    try:
        return _work(_parse(argv), stop, executor)
    except _Usage as error:
        print(USAGE, file=sys.stderr)  # noqa: T201
        return _Outcome("request-error", 2, str(error))
    except RequestError as error:
        return _Outcome("request-error", 2, str(error))
    except (HostError, OSError) as error:
        return _Outcome("host-error", 1, str(error))
    except _Interrupted:
        return stop.outcome()
    except Exception as error:  # noqa: BLE001 - a fault of ours, and the caller waits for its result
        traceback.print_exc()
        return _Outcome("internal-error", 1, f"{type(error).__name__}: {error}")
    finally:
        stop.raises = False
        executor.close()


def main(argv: list[str]) -> int:
    """Return the exit status."""
    try:
        file = _result_file(argv)
    except RequestError as error:
        _say(str(error))
        return 2
    stop = _Stop()
    with stop.watched():
        outcome = _attempt(argv, stop)
        if outcome.message:
            _say(outcome.message)
        if file is not None:
            try:
                file.write(outcome.to_json())
            except OSError as error:
                _say(f"the result can't be written to {file.path}: {error.strerror}")
                return outcome.exit_status or 1
    return outcome.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
