"""A plan as JSON: it comes back as it was, and a malformed one is refused by the name of the field."""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from functools import cache
from pathlib import Path
from typing import Any

import golden_cases
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from run_step import HostError, Inputs, RequestError, RunPlan, execute, validate, write_bundle
from run_step import plan as make_plan
from run_step.planning import Action


@cache
def plans() -> dict[str, RunPlan]:
    """Every plan of the golden cases, complete."""
    return {
        f"{case.name}-{name}": plan
        for case in golden_cases.CASES
        for name, plan in golden_cases.plans(case).items()
    }


def some_plan() -> dict[str, Any]:
    """A plan with files, which the test may change."""
    name = min(plans(), key=lambda key: (not plans()[key].files, key))
    data: dict[str, Any] = json.loads(json.dumps(plans()[name].to_json()))
    return data


@pytest.mark.slow
def test_every_golden_plan_comes_back_as_it_was() -> None:
    for name, plan in plans().items():
        text = json.dumps(plan.to_json())
        assert RunPlan.from_json(json.loads(text)) == plan, name
        assert json.dumps(RunPlan.from_json(json.loads(text)).to_json()) == text, name


def test_the_golden_plans_have_most_kinds_of_actions() -> None:
    seen = {type(action) for plan in plans().values() for action in plan.actions}
    assert len(seen) >= 10 and seen <= set(typing.get_args(Action))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "plan: an object is wanted, not None"),
        ([], "plan: an object is wanted, not []"),
        ({}, "plan: the field 'isolation' is missing"),
        ({"isolation": "chroot", "spec": {}}, "plan: the field 'container_id' is missing"),
    ],
)
def test_what_is_no_plan_is_refused(data: object, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        RunPlan.from_json(data)
    assert str(caught.value) == message


NODE = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3}
FILE = {"name": "hosts", "content": "", "mode": 0o644, "uid": 0, "gid": 0}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("isolation", "vm", "plan.isolation: 'vm' is not one of oci, chroot, rootless"),
        ("runtime", "/bin/ru\0nc", "plan.runtime: there is a null byte in '/bin/ru\\x00nc'"),
        ("runtime", "\ud800", "plan.runtime: '\\ud800' is not UTF-8 text"),
        ("runtime_flags", ["--debug", "\0"], "plan.runtime_flags[1]: there is a null byte"),
        (
            "files",
            [FILE, {**FILE, "name": "x"}, FILE],
            "plan.files[2].name: 'hosts': two files have this name",
        ),
        (
            "files",
            [{**FILE, "name": "etc/hosts"}],
            "plan.files[0].name: 'etc/hosts': a name without / is wanted",
        ),
        ("files", [{**FILE, "content": "a\ud800"}], "plan.files[0].content: 'a\\ud800' is not UTF-8 text"),
        ("spec.process.args", ["\ud800"], "plan.spec.process.args[0]: '\\ud800' is not UTF-8 text"),
        (
            "spec.process.capabilities",
            {"bounding": ["CAP_FLY"]},
            "capabilities.bounding[0]: 'CAP_FLY' is not",
        ),
        ("spec.process.capabilities", {"bounding": ["CHOWN"]}, "capabilities.bounding[0]: 'CHOWN' is not"),
        (
            "spec.linux.devices",
            [{**NODE, "uid": -1}],
            "plan.spec.linux.devices[0].uid: -1: an ID lies between",
        ),
        (
            "spec.linux.devices",
            [{**NODE, "gid": 1 << 32}],
            "plan.spec.linux.devices[0].gid: 4294967296: an ID",
        ),
        ("isolation", None, "plan.isolation: str is wanted, not None"),
        ("isolaton", "oci", "plan: unknown field 'isolaton'; did you mean 'isolation'?"),
        ("container_id", "../x", "plan.container_id: '../x' is not a name"),
        ("files", {}, "plan.files: a list is wanted"),
        ("files", [{**FILE, "name": "../../passwd"}], "plan.files[0].name: '../../passwd'"),
        ("files", [{**FILE, "name": "/etc/passwd"}], "plan.files[0].name: '/etc/passwd'"),
        ("files", [{**FILE, "name": ""}], "plan.files[0].name: ''"),
        ("files", [{**FILE, "mode": "644"}], "plan.files[0].mode: int is wanted, not '644'"),
        ("files", [{**FILE, "uid": -1}], "plan.files[0].uid: -1: an ID lies between"),
        ("files", [{**FILE, "mode": 1 << 20}], "plan.files[0].mode"),
        ("actions", "none", "plan.actions: a list is wanted, not 'none'"),
        ("actions", [{}], "plan.actions[0]: an object is wanted whose field 'do' is one of"),
        ("actions", [{"do": "Explode"}], "plan.actions[0]: an object is wanted whose field 'do' is one of"),
        ("actions", [{"do": ["MountPoint"]}], "plan.actions[0]: an object is wanted whose field 'do'"),
        ("actions", [{"do": "PutFile", "path": "/x"}], "plan.actions[0]: the field 'name' is missing"),
        ("actions", [{"do": "PutFile", "path": "x", "name": "x"}], "plan.actions[0].path: 'x': an absolute"),
        ("actions", [{"do": "TakeSource", "path": "", "name": "a/../b"}], "plan.actions[0].name: 'a/../b'"),
        ("actions", [{"do": "MakeNode", "path": "/x", "major": -1, "minor": 0}], "plan.actions[0].major: -1"),
        ("actions", [{"do": "SetSecret", "id": "x", "variable": "A=B"}], "plan.actions[0].variable: 'A=B'"),
        ("network", {"mode": "wires"}, "plan.network.mode: 'wires' is not one of host, none, path"),
        ("network", {"mode": "cni", "configs": ["x"]}, "plan.network.configs[0]: an object is wanted"),
        ("runtime_flags", "--debug", "plan.runtime_flags: a list is wanted, not '--debug'"),
        ("spec", [], "plan.spec: an object is wanted"),
        ("spec", {}, "plan.spec: the field 'linux' is missing"),
        ("spec.process", None, "plan.spec.process: an object is wanted, not None"),
        ("spec.process.args", "id", "plan.spec.process.args: a list is wanted, not 'id'"),
        ("spec.process.args", [], "plan.spec.process.args: it has no command"),
        ("spec.process.args", ["a\0"], "plan.spec.process.args[0]: there is a null byte"),
        ("spec.process.env", ["A"], "plan.spec.process.env[0]: 'A': the form is NAME=VALUE"),
        ("spec.process.cwd", "src", "plan.spec.process.cwd: 'src': an absolute path is wanted"),
        ("spec.process.user", {"uid": 0}, "plan.spec.process.user: the field 'gid' is missing"),
        ("spec.process.user.uid", 1 << 32, "plan.spec.process.user.uid: 4294967296: an ID lies between"),
        ("spec.process.rlimits", [{"type": "RLIMIT_CORE"}], "plan.spec.process.rlimits[0]: the field 'hard'"),
        ("spec.process.consoleSize", {"width": 0, "height": 5}, "plan.spec.process.consoleSize"),
        ("spec.mounts", [{"destination": "/x"}], "plan.spec.mounts[0]: the field 'options' is missing"),
        ("spec.linux.namespaces", None, "plan.spec.linux.namespaces: a list is wanted, not None"),
        ("spec.linux.resources.memory", {"limit": "1g"}, "plan.spec.linux.resources.memory.limit: int is"),
        ("spec.linux.resources.memory", {"limit": 10**30}, "plan.spec.linux.resources.memory.limit: the num"),
        ("spec.linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 0}], "uidMappings[0]: the size"),
        ("spec.linux.devices", [{"path": "dev", "type": "c"}], "plan.spec.linux.devices[0].path: 'dev'"),
        ("spec.hooks", {"prestart": [{"args": []}]}, "plan.spec.hooks.prestart[0]: the field 'path' is"),
    ],
)
def test_a_malformed_plan_is_refused_by_the_name_of_the_field(place: str, value: Any, message: str) -> None:
    data = some_plan()
    at = data
    *above, last = place.split(".")
    for name in above:
        at = at.setdefault(name, {})
    at[last] = value
    with pytest.raises(RequestError) as caught:
        RunPlan.from_json(data)
    assert message in str(caught.value)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, item in inner for found in _places(item, (*path, name)))]


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(1 << 70), max_value=1 << 70),
    st.text(max_size=5),
    st.sampled_from(["", "/", "..", "../x", "\0", "\ud800", "@bundle@", "@rootfs@"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_is_changed_it_is_a_plan_or_a_request_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(plans())))
    plan = json.loads(json.dumps(plans()[name].to_json()))
    spec = plan["spec"]["linux"]
    spec.get("seccomp", {}).pop(
        "syscalls", None
    )  # four hundred names, of which each would be as likely as all else
    *above, last = data.draw(st.sampled_from(_places(plan)[1:]))
    at = plan
    for step in above:
        at = at[step]
    if data.draw(st.booleans()):
        at[last] = data.draw(ODD)
    else:
        del at[last]
    try:
        made = RunPlan.from_json(plan)
    except RequestError as error:
        assert str(error).startswith("plan")
        return
    assert RunPlan.from_json(json.loads(json.dumps(made.to_json()))) == made
    validate(made.to_json(), "run-plan")


@pytest.mark.root
def test_a_plan_that_came_as_json_runs_as_the_one_it_was(step: Any) -> None:
    made = step.plan("/bin/sh", "-c", "id -u; cat /etc/hosts; echo $WORD", user="bob", env=("WORD=word",))
    outputs = []
    for plan in (made, RunPlan.from_json(json.loads(json.dumps(made.to_json())))):
        seen: list[bytes] = []
        result = step.executor.execute(plan, step.rootfs, output=lambda _, data, seen=seen: seen.append(data))
        assert result.status == 0
        outputs.append(b"".join(seen))
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith(b"1000\n") and outputs[0].endswith(b"word\n")


HOSTILE = {
    "MakeDirectory": {"path": "/../../PLACE/made", "mode": 0o755, "uid": 0, "gid": 0},
    "MountPoint": {"path": "/link/made", "directory": True},
    "PutFile": {"name": "hosts", "path": "/link/file"},
    "PutDirectory": {"path": "/link/directory"},
    "MakeNode": {"path": "/link/node", "major": 1, "minor": 3},
    "CopyVolume": {"path": "/link", "name": "copy"},
}


@pytest.mark.root
@pytest.mark.parametrize("kind", HOSTILE)
def test_actions_on_the_root_filesystem_stay_in_it(step: Any, kind: str, tmp_path: Path) -> None:
    """Of a plan that somebody has written: what it does to the root filesystem is resolved inside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (Path(step.rootfs) / "link").symlink_to(outside)
    plan = json.loads(json.dumps(step.plan("/bin/true").to_json()))
    action = {"do": kind, **HOSTILE[kind]}
    action["path"] = str(action["path"]).replace("PLACE", str(outside).strip("/"))
    plan["actions"].append(action)
    try:
        step.executor.execute(RunPlan.from_json(plan), step.rootfs, inputs=Inputs())
    except (HostError, OSError):
        pass
    assert list(outside.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize("isolation", ["chroot"])
def test_execute_refuses_a_rootfs_that_is_not_there(
    isolation: str, ask: Any, host: Any, tmp_path: Path
) -> None:
    made = make_plan(ask(isolation=isolation), host)
    (tmp_path / "file").write_text("")
    cases = {
        str(tmp_path / "none"): "does not exist",
        str(tmp_path / "file"): "is not a directory",
        "here": "must be absolute|does not exist",
        "": "must be absolute",
        "/a\0b": "null byte",
    }
    for path, why in cases.items():
        with pytest.raises(RequestError, match=why):
            execute(made, path, work_dir=str(tmp_path))
        with pytest.raises(RequestError):
            make_plan(dataclasses.replace(ask(isolation=isolation), rootfs=path), host)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "rootfs"]


@pytest.mark.root
def test_a_relative_rootfs_counts_from_the_working_directory(
    ask: Any, host: Any, rootfs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As any path of a caller; a request, which another process may plan, has an absolute one."""
    made = make_plan(ask("/bin/sh", "-c", "echo x > /made", isolation="chroot"), host)
    monkeypatch.chdir(os.path.dirname(rootfs))
    assert execute(made, os.path.basename(rootfs), work_dir=str(tmp_path)).status == 0
    assert os.path.exists(f"{rootfs}/made")


@pytest.mark.root
def test_a_bundle_in_a_relative_directory(
    ask: Any, host: Any, rootfs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    os.rename(rootfs, tmp_path / "bundle/rootfs")
    made = make_plan(dataclasses.replace(ask(isolation="oci"), rootfs=str(tmp_path / "bundle/rootfs")), host)
    monkeypatch.chdir(tmp_path)
    write_bundle(made, "bundle")
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    assert config["root"]["path"] == str(tmp_path / "bundle/rootfs")
