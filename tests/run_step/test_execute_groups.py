"""Where the control group of a step lies, and what is left when the process that serves the step is killed."""

import os
import signal
import threading

import pytest
from busybox_root import host_mounts, listing, marker, processes
from rows import row
from watching import clear, groups, parent_of

from run_step import HostError, NamespaceOption, Resources
from run_step.isolation.cgroup import UNIFIED, CgroupError, Group, layout_of


def unique():
    """A name that no other step has, and no other group."""
    return os.urandom(6).hex()


@pytest.fixture
def name():
    """A group's name; what lies below groups of that name is removed afterwards."""
    made = f"tests-{unique()}"
    yield made
    clear(groups(made))


def place(controller, pid="self"):
    """The mount point of a controller and the directory of a process's group there."""
    layout = layout_of(pid)
    return layout.get(controller) or layout[UNIFIED]


# Where it lies


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize("absolute", [False, True])
def test_a_group_below_a_parent(name, absolute):
    parent = f"/{name}/inner" if absolute else f"{name}/inner"
    group = Group.create("step", {"memory": {"limit": 64 << 20}}, parent)
    point, own = place("memory")
    memory = group.directories["memory"]
    assert memory == os.path.join(point if absolute else own, name, "inner", "step")
    assert os.path.isdir(memory)
    group.remove()
    assert groups(name) == []


@row("S30")
@pytest.mark.root
def test_only_what_was_made_of_a_parent_is_removed(name):
    """The upper half was there, with limits of somebody else's perhaps."""
    own = place("memory")[1]
    os.mkdir(os.path.join(own, name))
    group = Group.create("step", {}, f"{name}/inner")
    assert os.path.isdir(os.path.join(own, name, "inner", "step"))
    group.remove()
    assert groups(name) == [os.path.join(own, name)]
    assert os.path.isdir(os.path.join(own, name)) and not os.path.exists(os.path.join(own, name, "inner"))


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize("resources", [{}, {"memory": {"limit": 64 << 20}}, {"pids": {"limit": 9}}])
@pytest.mark.parametrize("parent", ["../" * 30 + "tmp", "/..", "/../../../.."])
def test_a_parent_outside_of_the_hierarchy_is_refused_with_and_without_limits(resources, parent):
    made = f"buildfront-{unique()}"
    with pytest.raises(CgroupError, match="outside of the cgroup filesystem"):
        Group.create(made, resources, parent)
    assert groups(made) == []


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize("absolute", [False, True])
def test_the_step_is_below_its_parent(step, name, absolute):
    """A relative one is below the builder's own group."""
    nap, seen, cancel = marker(), [], threading.Event()
    parent = f"/{name}" if absolute else name

    def look(stream, data):
        seen.extend(place("memory", pid)[1] for pid in processes(nap))
        cancel.set()

    resources = Resources(memory=64 << 20, cgroup_parent=parent)
    result = step.run(
        "/bin/sh", "-c", "echo; sleep 60; true", nap, resources=resources, output=look, cancel=cancel
    )
    point, own = place("memory")
    assert result.cancelled and seen
    assert {os.path.dirname(path) for path in seen} == {os.path.join(point if absolute else own, name)}
    assert os.path.basename(seen[0]).startswith("buildfront-")
    assert groups(name) == []


@row("S30")
@pytest.mark.root
def test_a_part_of_a_parent_that_was_there_stays(step, name):
    own = place("memory")[1]
    os.mkdir(os.path.join(own, name))
    resources = Resources(memory=64 << 20, cgroup_parent=f"{name}/inner")
    assert step.run("exit 3", resources=resources).status == 3
    assert groups(name) == [os.path.join(own, name)]
    assert not os.path.exists(os.path.join(own, name, "inner"))


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize("parent", ["../../../../../../../../{0}", "/../../../../../../{0}"])
def test_a_step_below_a_parent_outside_of_the_hierarchy_is_refused(step, name, parent):
    """Neither taken literally nor made to mean another group."""
    request = {"resources": Resources(cgroup_parent=parent.format(name)), "container_id": unique()}
    with pytest.raises(HostError, match=r"cgroup parent .*outside of the cgroup filesystem"):
        step.run("true", **request)
    assert groups(name) == groups(f"buildfront-{request['container_id']}") == []
    assert not os.path.exists(f"/{name}")
    assert os.listdir(step.work_dir) == []


# When it is left alone


@row("X82")
@pytest.mark.root
@pytest.mark.parametrize("parent", ["", "{0}", "/{0}/inner"])
@pytest.mark.parametrize("host_pids", [False, True])
def test_a_killed_supervised_child_is_told_and_leaves_nothing(step, name, host_pids, parent):
    """The process between the supervisor and the step: there is nobody else who waits for the step."""
    nap, other, identity = marker(), marker(), unique()
    before, mounted = listing(step.rootfs), host_mounts(os.path.dirname(step.rootfs))

    def kill(stream, data):
        here = processes(nap)
        (child,) = {parent_of(pid) for pid in here} - set(here)
        assert parent_of(child) == step.executor.supervisor._process.pid
        os.kill(child, signal.SIGKILL)

    line = f"setsid sleep {other} & sleep {other} & echo started; sleep {other}; true"
    with pytest.raises(HostError, match="supervisor ended before the step did"):
        step.run(
            "/bin/sh",
            "-c",
            line,
            nap,
            output=kill,
            container_id=identity,
            namespaces=(NamespaceOption("pid", host=True),) if host_pids else (),
            resources=Resources(cgroup_parent=parent.format(name)),
        )
    left = groups(f"buildfront-{identity}")
    running = processes(nap) + processes(other)
    clear(left)  # a failure here must not become another test's
    assert (running, left, groups(name)) == ([], [], [])
    assert os.listdir(step.work_dir) == []
    assert listing(step.rootfs) == before
    assert host_mounts(os.path.dirname(step.rootfs)) == mounted
    assert step.text("echo fine") == "fine\n"
