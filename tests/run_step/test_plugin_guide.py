"""The plugin guide, docs/plugin.md: every block of it runs, and its tables are true."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_cases
import pytest
from busybox_root import make_rootfs

from run_step import (
    Executor,
    HostError,
    HostFacts,
    Inputs,
    LocalExecutor,
    Plan,
    RequestError,
    Result,
    RunPlan,
    RunRequest,
    RunResult,
    Secret,
    check_executor,
    check_plan,
    check_result,
    choose_isolation,
    plan,
)
from run_step.__main__ import _MANY, _ONCE
from run_step.pipeline import STAGES, Draft

PROJECT = Path(__file__).parent.parent.parent
GUIDE = (PROJECT / "docs" / "plugin.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def table(after: str) -> list[list[str]]:
    """The rows of the first table behind a text, each a list of cells."""
    rest = GUIDE[GUIDE.index(after) :]
    lines = rest[rest.index("\n|---") :].split("\n")[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def guide_module(rootfs: str) -> str:
    """All Python of the page as one program."""
    return "\n".join(blocks("python")).replace("/path/to/rootfs", rootfs)


@pytest.mark.root
def test_the_python_of_the_guide_runs(rootfs: str, tmp_path: Path) -> None:
    program = tmp_path / "guide.py"
    program.write_text(guide_module(rootfs))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    status, _, rest = done.stdout.partition(" ")
    assert status == "0" and "hello" in rest and "192.0.2.7" in rest and "db" in rest


@pytest.mark.root
def test_the_commands_of_the_guide_run(rootfs: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = ""
    for text in blocks("sh"):
        command = ["sh", "-ec", text.replace("/path/to/rootfs", rootfs)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert printed.count("uid=1000") == 2
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "success"
    assert RunPlan.from_json(json.loads((tmp_path / "plan.json").read_text()))


def test_no_block_of_the_guide_is_left_out() -> None:
    fences = re.findall(r"^```(\w*)$", GUIDE, re.MULTILINE)
    assert set(fences[::2]) == {"python", "sh", "toml"} and set(fences[1::2]) == {""}


# Its tables


def test_the_options_of_the_guide_are_those_of_the_program() -> None:
    told = {
        name.split()[0] for row in table("| option of `run` |") for name in re.findall(r"--[a-z]+", row[0])
    }
    assert told == {*_ONCE["run"], *_MANY}


def test_the_kinds_of_outcomes_are_those_of_the_program() -> None:
    source = (PROJECT / "plugins" / "run_step" / "__main__.py").read_text()
    told = {names(row[0])[0] for row in table("| `kind` |")}
    assert told == set(re.findall(r'_Outcome\(\s*"([a-z-]+)"', source))


def test_the_fields_of_the_draft_are_in_the_guide() -> None:
    into, known, between = GUIDE[GUIDE.index("### The draft") :].split("\n| field |")[:3]
    told = {name for row in table("### The draft") for name in names(row[0])}
    told |= set(
        names(re.findall(r"These are known at the start[^:]*: (.*?)With the others", GUIDE, re.DOTALL)[0])
    )
    told |= {name for row in table("With the others") for name in names(row[0])}
    fields = {field.name for field in dataclasses.fields(Draft)}
    assert fields <= told and told - fields <= {"Root", "oci", "rootless", "chroot"}
    assert into and known and between


def _name(stage: Callable[..., None]) -> str:
    return f"{stage.__module__.rpartition('.')[2]}.{stage.__name__}"


def test_the_stages_are_in_the_guide_in_their_order() -> None:
    assert [names(row[0])[0] for row in table("The stages in their order")] == [
        _name(stage) for stage in STAGES
    ]


def _leaves(value: Any, place: str = "") -> dict[str, str]:
    """Every field of a spec, down to what the guide speaks of, and its content."""
    if isinstance(value, dict) and place.count(".") < 2 and place != "annotations":
        out: dict[str, str] = {}
        for name, item in value.items():
            out |= _leaves(item, f"{place}.{name}" if place else name)
        return out
    return {place: json.dumps(value)}


def _watched(seen: dict[str, set[str]]) -> tuple[Any, ...]:
    """The stages, each of which tells what it changes in the spec and in the draft."""

    def watch(stage: Any) -> Any:
        def apply(draft: Draft, request: RunRequest, facts: HostFacts) -> None:
            spec, before = _leaves(draft.spec), copy.copy(vars(draft))
            before = {name: copy.deepcopy(item) for name, item in before.items() if name != "root"}
            stage(draft, request, facts)
            after = _leaves(draft.spec)
            changed = {name for name in spec | after if spec.get(name) != after.get(name)}
            changed |= {f"draft.{name}" for name, item in before.items() if vars(draft)[name] != item}
            seen[_name(stage)] |= changed
            assert draft.root is vars(draft)["root"]

        return apply

    return tuple(watch(stage) for stage in STAGES)


def test_the_stages_set_what_the_guide_says() -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    for case in golden_cases.CASES:
        settings = tomllib.loads((case / "case.toml").read_text())
        facts = golden_cases.TESTDATA / "hosts" / f"{settings['host']}.json"
        host = HostFacts.from_json(json.loads(facts.read_text()))
        for request in golden_cases.requests(case):
            isolation = choose_isolation(request.isolation or "auto", host)[0]
            plan(dataclasses.replace(request, isolation=isolation), host, stages=_watched(seen))
    rows = table("The stages in their order")
    told = {names(row[0])[0]: [name.removesuffix("[0]") for name in names(row[1])] for row in rows}
    setters = {name: row[1] for row in table("With the others") for name in names(row[0])}
    anywhere = {"draft.spec", "draft.files", "draft.actions", "draft.warnings"}
    wrong = []
    for stage, changed in seen.items():
        module = stage.partition(".")[0]
        for place in sorted(changed - anywhere):
            if place == "draft.network":
                right = "network" in told[stage]
            elif place.startswith("draft.") or place == "process.env":
                right = module in names(setters[place.removeprefix("draft.").replace("process.", "")])
            elif stage in ("rootless_limits.apply", "bare.apply"):
                right = True  # they take away, whatever it is
            else:
                right = any(place == name or place.startswith(f"{name}.") for name in told[stage])
            if not right:
                wrong.append(f"{stage} changes {place}")
    assert not wrong, "\n".join(wrong)
    assert len(seen) == len(STAGES)


# The types of the contract


def test_the_ones_of_this_package_fit_the_types() -> None:
    executor: Executor = LocalExecutor()
    made: Plan = RunPlan("oci", "x", {"mounts": [{"destination": "/a"}]})
    result: Result = RunResult(3, 1)
    assert check_executor(executor) is executor
    assert check_plan(made) is made and made.destinations == ("/a",) and made.network_mode == "host"
    assert check_result(result) is result and result.describe() == "exit status 3"
    executor.close()
    assert RunPlan("oci", "x", {}).destinations == ()


def test_the_table_of_the_types_is_complete() -> None:
    told: dict[str, set[str]] = defaultdict(set)
    kind = ""
    for row in table("| type | member |"):
        kind = names(row[0])[0] if row[0] else kind
        told[kind] |= {name.partition("(")[0] for name in names(row[1])}
    for protocol in (Executor, Plan, Result):
        members = {name for name in vars(protocol) if not name.startswith("_")}
        assert told[protocol.__name__] == members


class Whole:
    """An executor with all that is wanted."""

    def plan(self, request: RunRequest) -> Any: ...

    def execute(self, plan: Any, rootfs: str, **more: Any) -> Any: ...

    def close(self) -> None: ...


class NoClose:
    plan = Whole.plan
    execute = Whole.execute


class NoMethod(Whole):
    plan = None  # type: ignore[assignment]


class OldExecute(Whole):
    def execute(self, plan: Any, rootfs: str, *, output: Any = None, cancel: Any = None) -> Any: ...


class MoreToPlan(Whole):
    def plan(self, request: RunRequest, facts: HostFacts) -> Any: ...


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoClose, "the executor NoClose can't be used: it has no method close()"),
        (NoMethod, "the executor NoMethod can't be used: it has no method plan()"),
        (OldExecute, "execute() can't be called as the contract says: got an unexpected keyword argument"),
        (MoreToPlan, "plan() can't be called as the contract says: missing a required argument: 'facts'"),
    ],
)
def test_an_executor_that_lacks_something_is_refused(kind: type, message: str) -> None:
    with pytest.raises(HostError) as caught:
        check_executor(kind())
    assert message in str(caught.value)
    whole = Whole()
    assert check_executor(whole) is whole


def test_a_plan_or_a_result_that_lacks_something_is_refused() -> None:
    with pytest.raises(HostError, match=r"its plan, of the type dict, has no warnings"):
        check_plan({})
    with pytest.raises(HostError, match=r"its result, of the type RunPlan, has no exit_status"):
        check_result(RunPlan("oci", "x", {}))


@pytest.mark.root
def test_an_executor_refuses_the_plan_of_another_one(rootfs: str) -> None:
    class Other:
        warnings = ()
        destinations = ()
        network_mode = ""

    executor = LocalExecutor()
    try:
        with pytest.raises(RequestError, match="a RunPlan is wanted, not Other"):
            executor.execute(Other(), rootfs)
    finally:
        executor.close()


# The executor of the guide


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guide's executor in a directory that is like an installed distribution; the directory is on PYTHONPATH."""
    code = next(block for block in blocks("python") if "class ProcessExecutor" in block)
    packages = tmp_path / "packages"
    information = packages / "my_package-1.dist-info"
    information.mkdir(parents=True)
    (packages / "my_package.py").write_text(code)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n")
    (group,) = (tomllib.loads(text)["project"]["entry-points"] for text in blocks("toml"))
    lines = [f"{name} = {value}" for name, value in group["buildfront.run_step"].items()]
    (information / "entry_points.txt").write_text("[buildfront.run_step]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(packages))
    import my_package  # type: ignore[import-not-found]

    yield my_package.ProcessExecutor(work_dir=str(tmp_path))
    del sys.modules["my_package"]


@pytest.mark.root
def test_the_guides_executor_keeps_the_contract(other: Any, rootfs: str, tmp_path: Path) -> None:
    executor = check_executor(other)

    def run(line: str, **more: Any) -> tuple[Result, bytes]:
        made = check_plan(executor.plan(RunRequest(("/bin/sh", "-c", line), rootfs, isolation="chroot")))
        seen: list[bytes] = []
        result = executor.execute(made, rootfs, output=lambda _, data: seen.append(data), **more)
        return check_result(result), b"".join(seen)

    result, text = run("echo out; echo err >&2; echo x > /made")
    assert result.exit_status == 0 and set(text.split()) == {b"out", b"err"}
    assert Path(rootfs, "made").read_text() == "x\n"
    result, _ = run("exit 2")
    assert (result.exit_status, result.describe(), result.cancelled) == (2, "exit status 2", False)
    assert run("sleep 1000", timeout=0.5)[0].timed_out
    reader, writer = os.pipe()
    os.write(writer, b"given")
    os.close(writer)
    assert run("cat", stdin=reader)[1] == b"given"
    os.close(reader)
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    began = time.monotonic()
    result, _ = run("sleep 1000", cancel=cancel)
    assert result.cancelled and not result.timed_out and time.monotonic() - began < 60
    with pytest.raises(HostError, match="nosuch"):
        request = RunRequest(("nosuch",), rootfs, isolation="chroot")
        executor.execute(executor.plan(request), rootfs)
    with pytest.raises(RequestError, match="does not exist"):
        executor.execute(executor.plan(request), "/no/such/rootfs")
    with pytest.raises(HostError, match="no secrets"):
        run("true", inputs=Inputs(secrets={"x": Secret(b"")}))
    executor.close()


@pytest.mark.root
def test_buildfront_builds_with_the_guides_executor(other: Any, tmp_path: Path) -> None:
    context, base = tmp_path / "context", tmp_path / "context" / "base"
    make_rootfs(str(base))
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY base /\nRUN echo made > /made && cat /made\n"
        "RUN --mount=type=cache,target=/cache echo y > /cache/y && cat /cache/y > /from-cache\n"
    )
    buildfront = str(Path(sys.executable).parent / "buildfront")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "packages"), "HOME": str(tmp_path)}
    command = [buildfront, "--root", str(tmp_path / "store"), "build", "--run-step", "process"]
    out = tmp_path / "out"
    done = subprocess.run(
        [*command, "-o", f"type=local,dest={out}", str(context)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "made").read_text() == "made\n" and (out / "from-cache").read_text() == "y\n"
    (context / "Dockerfile").write_text("FROM scratch\nCOPY base /\nRUN exit 7\n")
    failed = subprocess.run(
        [*command, str(context)], env=environment, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 7 and "exit status 7" in failed.stderr
