"""RUN: a command, carried out by the executor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import run_step
from run_step import HostError, RequestError, Root

from ...dockerfile.ignore import literal
from ...errors import BuildError
from ...graph.step_graph import Mount, RunOp, Step
from .. import redact
from ..active_build import ActiveBuild
from ..cache_key import Key
from ..cache_lookup import key_for, recall
from ..cancellation import Cancelled
from ..operation import Reads
from ..report import Report
from ..result import Result
from ..selection import Wanted
from ..state import State
from .run_checks import require_device
from .run_inputs import RunInputs, mount_content, planned_mounts
from .run_request import run_request

_TAIL = 4000
"""Bytes of a command's output that an error quotes."""


class RunOperation:
    """One RUN."""

    def __init__(self, step: Step, op: RunOp) -> None:
        self.step = step
        self.op = op

    def check(self, state: State) -> None:
        """Raise BuildError where a secret or an agent is required and was not given."""
        planned_mounts(self.op, state.options.secrets, state.options.agents)

    def reads(self, state: State) -> Reads | None:
        """Return a digest for each mount; None where a step's result has to be looked into first."""
        contents = [mount_content(state, mount) for mount in self.op.mounts]
        known = tuple(item for item in contents if item is not None)
        return known if len(known) == len(contents) else None

    def key_parts(self, reads: Reads, run_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the command, its environment, the options that can change its result, and its mounts."""
        op = self.op
        parts: dict[str, Any] = {
            "command": list(op.command),
            "env": list(op.env),
            "args": list(op.args),
            "user": op.user,
            "cwd": op.cwd,
            "network": op.network,
            "options": {name: value for name, value in run_options.items() if name != "compat_volumes"},
        }
        if run_options.get("compat_volumes") and op.volumes:
            parts["volumes"] = sorted(op.volumes)
        if op.script is not None:
            parts["script"] = [op.script.name, op.script.content]
        if op.security == "insecure":
            parts["security"] = op.security
        if op.devices:
            parts["devices"] = [[device.name, device.required] for device in op.devices]
        if op.mounts:
            pairs = zip(op.mounts, reads, strict=True)
            parts["mounts"] = [_mount_parts(mount, content) for mount, content in pairs]
        return parts

    def recall(self, state: State, key: str) -> Result | None:
        """Return the result that the catalogue has for this key."""
        return recall(state, self.step, key)

    def perform(self, build: ActiveBuild) -> Result:
        """Run the command. Raise BuildError where it fails."""
        build.executor.load()  # a name that is not known is told before anything else
        key = key_for(build.state, self, tuple(_content(build, mount) for mount in self.op.mounts))
        if self.op.mounts:
            known = self.recall(build.state, key.digest)
            if known is not None:
                return known
        build.report.start(self.step)
        options = build.state.options
        mounts = planned_mounts(self.op, options.secrets, options.agents)
        return build.change(self.step, key, lambda root: self._run(build, root, key, mounts))

    def _run(self, build: ActiveBuild, root: Root, key: Key, mounts: tuple[run_step.RunMount, ...]) -> None:
        report = build.report
        output = _StepOutput(report, self.step, build.secret_words)
        devices = self._devices(build, root, key)
        plan = build.executor.plan(
            run_request(build.state.options, self.op, root.path, key.digest, mounts, devices)
        )
        report.warn(self.step, plan.warnings)
        with RunInputs(build) as opened:
            needed = mounts or self.op.script is not None
            inputs = opened.open(self.op, plan.destinations) if needed else None
            result = self._execute(build, plan, root, output, inputs)
        output.end()
        report.used(self.step, result.usage())
        report.warn(self.step, result.warnings)
        if result.cancelled and not result.timed_out:
            raise Cancelled
        if result.exit_status or result.timed_out:
            raise BuildError(
                f"the command failed: {result.describe()}",
                where=self.step.source,
                output=output.tail.decode("utf-8", "replace"),
                status=result.exit_status or 1,
            )

    def _devices(self, build: ActiveBuild, root: Root, key: Key) -> tuple[str, ...]:
        """Return the CDI devices of the step. One that is not required and that the machine lacks is left out.

        Raise BuildError for one that the machine has and that the caller did not allow.
        """
        found = []
        for device in self.op.devices:
            if not device.required:
                trial = run_request(build.state.options, self.op, root.path, key.digest, (), (device.name,))
                try:
                    build.executor.plan(trial)
                except (HostError, RequestError) as error:
                    build.report.warn(self.step, [f"the step goes on without a device: {error}"])
                    continue
                require_device(build.state.options, device.name)
            found.append(device.name)
        return tuple(found)

    def _execute(
        self,
        build: ActiveBuild,
        plan: run_step.Plan,
        root: Root,
        output: _StepOutput,
        inputs: run_step.Inputs | None,
    ) -> run_step.Result:
        options = build.state.options
        with nullcontext() if options.stdin is None else build.stdin_lock:
            return build.executor.execute(
                plan,
                root.path,
                output=output,
                stdin=options.stdin,
                cancel=build.state.cancel.event,
                timeout=options.timeout,
                inputs=inputs,
            )


class _StepOutput:
    """Tells the listeners what a command prints, without the secrets in it. ``tail`` is the end of it."""

    def __init__(self, report: Report, step: Step, secret_words: tuple[bytes, ...]) -> None:
        self._report = report
        self._step = step
        self._words = secret_words
        self._redactors: dict[str, redact.Redactor] = {}
        self.tail = bytearray()

    def __call__(self, stream: str, data: bytes) -> None:
        if self._words:
            redactor = self._redactors.setdefault(stream, redact.Redactor(self._words))
            data = redactor.feed(data)
        self._tell(stream, data)

    def end(self) -> None:
        """Tell what was held back because it could have become a secret."""
        for stream, redactor in self._redactors.items():
            self._tell(stream, redactor.end())

    def _tell(self, stream: str, data: bytes) -> None:
        if not data:
            return
        self.tail.extend(data)
        del self.tail[:-_TAIL]
        self._report.output(self._step, stream, data)


def _content(build: ActiveBuild, mount: Mount) -> str:
    """Return the digest of what a mount reads, looking into the step's result where it is not known yet."""
    state = build.state
    found = mount_content(state, mount)
    if found is not None or mount.origin is None:
        return found or ""
    result = state.results[mount.origin]
    with build.session.view(build.snapshot(result)) as view, Root(view.path) as source:
        what = "stage it is mounted from"
        return state.digests.of_tree(Wanted((literal(mount.source),)), source, result, what)[0]


def _mount_parts(mount: Mount, content: str) -> dict[str, Any]:
    """Return the parts of a key for a mount: how it looks to the command, and a digest of what it reads.

    The content of a secret, an agent or a cache is not among them, nor whether a secret or an agent was given.
    """
    left_out = {"origin", "required", "sharing"}
    parts = {name: value for name, value in dataclasses.asdict(mount).items() if name not in left_out}
    return {**parts, "content": content}
