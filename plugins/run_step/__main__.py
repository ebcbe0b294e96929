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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
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
from .stdio.own_streams import OwnStreams, Patience
from .validation import validate

USAGE = """\
usage: python -m run_step plan [--request FILE] [--result FILE] [--source NAME=PATH]
                               [--secret id=ID,src=FILE] [--ssh ID[=SOCKET|KEY]] < request.json
       python -m run_step run [--timeout SECONDS] [the same options] < request.json
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
    notes: str = ""
    """Lines that are shown before the message, and are not in the file."""

    def to_json(self) -> dict[str, object]:
        """Return the JSON object of the result file; where the step ran, with the fields of its result."""
        ran = {} if self.result is None else self.result.to_json()
        return {"kind": self.kind, "exit_status": self.exit_status, "message": self.message, **ran}


def _parse(argv: list[str]) -> _Options:
    """Return the options of a command line. Raises _Usage that says what is not understood."""
    if not argv or argv[0] not in _ONCE:
        raise _Usage("the first argument is plan or run")
    options = _Options(argv[0])
    if len(argv) % 2 == 0:
        raise _Usage(f"{argv[-1]} has no value")
    for name, value in zip(argv[1::2], argv[2::2], strict=True):
        if name in _MANY:
            options.many[name].append(value)
        elif name not in _ONCE[options.action]:
            raise _Usage(f"{options.action} has no option {name}")
        elif name in options.once:
            raise _Usage(f"{name} is given twice")
        else:
            options.once[name] = value
    for name, value in options.once.items():
        if not value:
            raise _Usage(f"{name} has an empty value")
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
    """Return the file for the result, wherever it is named: a command line that is wrong has a result too.

    Raises RequestError where nothing can be written.
    """
    pairs = list(zip(argv[1::2], argv[2::2], strict=False))
    read = [value for name, value in pairs if name in ("--request", "--plan") and value != "-"]
    return next((ResultFile(value, read) for name, value in pairs if name == "--result"), None)


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

    def patience(self) -> Patience:
        """Return the time that a blocked write of ours has."""
        return Patience(self.event.is_set)

    def say(self, text: str) -> None:
        """Print text of ours on stderr. Whether that is possible changes no outcome."""
        with suppress(OSError):
            OwnStreams(self.patience())("stderr", text.encode(errors="backslashreplace"))

    def outcome(self, result: RunResult | None = None) -> _Outcome:
        """Return the outcome of a run that a signal has ended."""
        name = signal.Signals(self.signal or signal.SIGINT).name
        return _Outcome("cancelled", 128 + (self.signal or signal.SIGINT), f"stopped by {name}", result)


def _inputs(many: Mapping[str, list[str]]) -> Inputs:
    """Return the inputs that the options name. Raises RequestError for one that is malformed or can't be read."""
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


def _line(text: str) -> str:
    """Return a line of ours; an error may quote a value of the request, whatever its size."""
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return f"run_step: {text}\n"


def _warnings(texts: Iterable[str]) -> str:
    return "".join(_line(f"warning: {text}") for text in texts)


def _request(path: str) -> RunRequest:
    data = _read(path)
    request = RunRequest.from_json(data)
    validate(data)
    return request


def _work(options: _Options, stop: _Stop, executor: LocalExecutor) -> _Outcome:
    """Plan, or plan and run. Raises RequestError, HostError, OSError, _Interrupted."""
    stop.say(_warnings(enter_user_namespace()))
    source = options.once.get("--plan") or options.once.get("--request") or "-"
    if "--plan" in options.once:
        plan, rootfs = RunPlan.from_json(_read(source)), options.once["--rootfs"]
        inputs = _inputs(options.many)
    else:
        request = _request(source)
        inputs = _inputs(options.many)
        plan, rootfs = executor.plan(request), request.rootfs
    if options.action == "plan":
        OwnStreams(stop.patience())("stdout", (json.dumps(plan.to_json(), indent=2) + "\n").encode())
        return _Outcome("success", 0)
    stop.say(_warnings(plan.warnings))
    stop.raises = False  # changes of the root filesystem have to be undone
    result = executor.execute(
        plan,
        rootfs,
        stdin=None if source == "-" else 0,
        cancel=stop.event,
        timeout=options.timeout,
        inputs=inputs,
    )
    return replace(_outcome(result, stop), notes=_warnings(result.warnings))


def _outcome(result: RunResult, stop: _Stop) -> _Outcome:
    if result.timed_out:
        stop.event.set()  # from now on, a reader that does not read holds up nothing
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
        return _Outcome("request-error", 2, str(error), notes=USAGE + "\n")
    except RequestError as error:
        return _Outcome("request-error", 2, str(error))
    except (HostError, OSError) as error:
        # The same Ctrl-C ends the reader of our output, which is then a broken pipe.
        return stop.outcome() if stop.signal else _Outcome("host-error", 1, str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours, and the caller waits for its result
        message = f"{type(error).__name__}: {error}"
        return _Outcome("internal-error", 1, message, notes=traceback.format_exc())
    finally:
        stop.raises = False
        executor.close()


def main(argv: list[str]) -> int:
    """Return the exit status."""
    stop = _Stop()
    try:
        file = _result_file(argv)
    except RequestError as error:
        stop.say(_line(str(error)))
        return 2
    with stop.watched():
        try:
            outcome = _attempt(argv, stop)
        except _Interrupted:
            stop.raises = False
            outcome = stop.outcome()
        status = outcome.exit_status
        text = outcome.notes + (_line(outcome.message) if outcome.message else "")
        if file is not None:  # before anything is printed, which may fail
            try:
                file.write(outcome.to_json(), stop.patience())
            except OSError as error:
                text += _line(f"the result can't be written to {file.path}: {error.strerror}")
                status = status or (128 + stop.signal if stop.signal else 1)
        stop.say(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
