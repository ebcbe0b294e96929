"""Fixtures: a small root filesystem, recorded host facts, and a step for each way to run one."""

import os
import pathlib
import shutil
import tempfile

import as_user
import pytest
from busybox_root import make_rootfs, why_not_run
from crun_alone import crun, missing
from ways import CONFINED, EVERY, RemoteStep, Step, isolations, made_up_host, prefix_of

from run_step import (
    ImageDefaults,
    RunRequest,
)


@pytest.fixture
def rootfs(tmp_path):
    return make_rootfs(str(tmp_path / "rootfs"))


@pytest.fixture
def host():
    """Facts of a host that does not exist: a plan made from them is the same everywhere."""
    return made_up_host()


@pytest.fixture(scope="module")
def module_host():
    """The same for fixtures that live longer."""
    return made_up_host()


@pytest.fixture(params=isolations())
def step(request, rootfs, tmp_path, host):
    reason = why_not_run()
    if reason:
        pytest.skip(reason)
    work = tmp_path / "work"
    work.mkdir()
    made = Step(rootfs, request.param, str(work), host)
    yield made
    made.executor.close()


@pytest.fixture
def open_path():
    """A directory that an ordinary user can reach; pytest's own are closed."""
    path = tempfile.mkdtemp(prefix="step-")
    os.chmod(path, 0o755)
    yield pathlib.Path(path)
    shutil.rmtree(path)


@pytest.fixture(params=EVERY)
def every_step(request, rootfs, tmp_path, host):
    """A step under each isolation, as root, as an ordinary user and inside an ordinary container. The test module
    has to put ``open_path`` in the place of ``tmp_path``."""
    yield from _make_step(request, rootfs, tmp_path, host)


@pytest.fixture(params=CONFINED)
def confined_step(request, rootfs, tmp_path, host):
    """The same without the container."""
    yield from _make_step(request, rootfs, tmp_path, host)


@pytest.fixture(params=[*CONFINED, "oci of crun", "rootless of crun"])
def runtime_step(request, rootfs, tmp_path, host):
    """The same with steps of crun besides."""
    isolation, _, runtime = request.param.partition(" of ")
    if not runtime:
        yield from _make_step(request, rootfs, tmp_path, host)
        return
    if missing():
        pytest.skip(missing())
    with crun(isolation, rootfs, tmp_path, host) as made:
        yield made


def _make_step(request, rootfs, tmp_path, host):
    reason = why_not_run()
    if reason:
        pytest.skip(reason)
    work = tmp_path / "work"
    work.mkdir()
    if request.param in isolations():
        made = Step(rootfs, request.param, str(work), host)
        yield made
        made.executor.close()
        return
    if "container" not in request.param:
        as_user.give(rootfs)
        as_user.give(str(work))
    prefix = prefix_of(request.param, str(tmp_path / "user"))
    made = RemoteStep(rootfs, request.param.split()[0], str(work), host, prefix)
    yield made
    made.close()


@pytest.fixture
def ask(rootfs):
    """A request for the root filesystem; the image's defaults are given as ``image_env`` and so on."""

    def make(*args, **fields):
        image = {key[6:]: fields.pop(key) for key in list(fields) if key.startswith("image_")}
        fields.setdefault("isolation", "oci")
        return RunRequest(args or ("/bin/true",), rootfs, image=ImageDefaults(**image), **fields)

    return make
