"""Images in which a place that a step mounts on is a link: nothing is made on the host, and the image stays as it is.

Each under every isolation, each runtime, as root and as an ordinary user.
"""

import json
import os
import stat

import pytest
from busybox_root import host_mounts, listing
from rows import row
from ways import RemoteStep

from run_step import HostError, ImageDefaults, RequestError, RunMount

pytestmark = pytest.mark.root


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def step(runtime_step):
    return runtime_step


@pytest.fixture
def canary(tmp_path):
    """A directory of the host that everybody may write to, with what runtimes make and take away in a /dev."""
    path = tmp_path / "canary"
    for name in ("pts", "fs/cgroup"):
        (path / name).mkdir(parents=True)
    for name in ("ptmx", "console", "pts/ptmx", "hosts"):
        (path / name).write_text("the host's own\n")
    for top, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            os.chmod(os.path.join(top, name), 0o777)
    return path


SPELLINGS = ("absolute", "up", "hops", "dangling", "back", "root", "loop")


def link(step, name, spelling, canary):
    """Put a link in the place of ``name`` in the image, which belongs to who runs the step."""
    path = step.rootfs + name
    owner = os.stat(step.rootfs)
    top = os.path.dirname(path)
    if not os.path.isdir(top):
        os.makedirs(top)
        os.chown(top, owner.st_uid, owner.st_gid)
    if os.path.isdir(path) and not os.path.islink(path):
        os.rename(path, f"{step.rootfs}/was-{os.path.basename(path)}")
    elif os.path.lexists(path):
        os.unlink(path)
    links = {
        "absolute": {path: str(canary)},
        "up": {path: "../" * 40 + str(canary).lstrip("/")},
        "hops": {path: "hop-1", f"{top}/hop-1": "./hop-2", f"{top}/hop-2": f"{'../' * 20}{canary}"},
        "dangling": {path: f"{canary}/not/there"},
        "back": {path: "not-there/../back", f"{top}/back": str(canary)},
        "root": {path: "/"},
        "loop": {path: os.path.basename(name)},
    }[spelling]
    for place, target in links.items():
        if not os.path.islink(place):
            os.symlink(target, place)
            os.chown(place, owner.st_uid, owner.st_gid, follow_symlinks=False)


def of_dev():
    """What belongs into a /dev, and is in the host's root directory."""
    names = "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    return set(names.split()) & set(os.listdir("/"))


def attempt(step, canary, line, **fields):
    """What the step printed, or the error; whatever became of it, host and image are as they were."""
    host = listing(str(canary))
    image = listing(step.rootfs)
    top = of_dev()
    mounted = host_mounts(str(canary.parent))
    try:
        result = step.run(line, **fields)
        said = step.stdout.decode() if result.status == 0 else f"{result} {step.stderr.decode()}"
    except (HostError, RequestError) as error:
        said = f"error: {error}"
    assert listing(str(canary)) == host
    assert of_dev() == top
    assert host_mounts(str(canary.parent)) == mounted
    assert listing(step.rootfs) == image
    return said


WORKS = "echo x > /dev/null && test -d /proc/self/fd && test -d /sys/class && test -L /dev/fd && test -d /dev/shm && "
WORKS += "test -c /dev/full && echo fine"


@row("S60")
@pytest.mark.slow
def test_a_directory_of_the_kernels_that_is_a_link(step, canary):
    """The step has its own there for its time, the image its link afterwards."""
    for spelling in SPELLINGS:
        for name in ("/dev", "/proc", "/sys"):
            link(step, name, spelling, canary)
            for network in ("host", "none"):
                assert attempt(step, canary, WORKS, network=network) == "fine\n"
        assert attempt(step, canary, "test -c /dev/ptmx && echo fine", terminal="with") == "fine\r\n"


@row("S60")
@pytest.mark.parametrize("kind", ["file", "pipe", "node"])
def test_a_directory_of_the_kernels_that_is_none(step, canary, kind):
    for name in ("/dev", "/proc", "/sys"):
        path = step.rootfs + name
        if kind == "file":
            with open(path, "w") as stream:
                stream.write("the image's own")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        said = attempt(step, canary, WORKS)
        if kind == "node" and isinstance(step, RemoteStep) and "error" in said:
            assert (
                said == f"error: {name} of the image can't be set aside for the step: Operation not permitted"
            )
            return
        assert said == "fine\n"


@row("S60")
def test_places_below_that_are_links(step, canary):
    """Below what the step has of its own the image's links are not seen."""
    for spelling in ("absolute", "up", "dangling"):
        for name in (
            "/dev/pts",
            "/dev/shm",
            "/dev/mqueue",
            "/dev/fd",
            "/dev/ptmx",
            "/dev/console",
            "/dev/null",
        ):
            link(step, name, spelling, canary)
        for name in ("/sys/fs", "/sys/firmware", "/proc/self", "/proc/sys", "/proc/kcore"):
            link(step, name, spelling, canary)
        assert attempt(step, canary, WORKS) == "fine\n"
        assert attempt(step, canary, WORKS, terminal="with", network="none") == "fine\r\n"


@row("S54")
@pytest.mark.parametrize("name", ["/etc", "/run", "/run/secrets", "/mnt", "/etc/hosts", "/etc/resolv.conf"])
def test_where_files_of_the_step_belong_is_a_link(step, canary, tmp_path, name):
    """Followed inside the image; where that leads to nothing at all, that is told."""
    (tmp_path / "rootfs-sources").mkdir()  # see agent.py
    (tmp_path / "rootfs-sources").chmod(0o777)
    for spelling in SPELLINGS:
        link(step, name, spelling, canary)
        mounts = (
            RunMount("secret", id="key"),
            RunMount("bind", "/mnt/m", source="m"),
            RunMount("tmpfs", "/mnt/t"),
        )
        if not isinstance(step, RemoteStep):  # it is the other one that has what is to be handed over
            mounts = (RunMount("tmpfs", "/mnt/t"),)
        said = attempt(step, canary, "echo fine", run_mounts=mounts, dns=("192.0.2.1",), hostname="box")
        if said != "fine\n":
            assert spelling in ("loop", "root"), said
            assert said.startswith("error: /") and "\n" not in said
        else:
            assert spelling != "loop" or name in ("/run/secrets", "/mnt")


@row("S64")
def test_volumes_on_links(step, canary, tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "file").write_text("of the volume\n")
    for spelling in SPELLINGS:
        link(step, "/link", spelling, canary)
        for options in ("", ":ro", ":O"):
            for place in ("/link", "/link/deep/er"):
                said = attempt(step, canary, "echo fine", volumes=(f"{tmp_path}/volume:{place}{options}",))
                assert said == "fine\n" or (spelling in ("loop", "root") and said.startswith("error: ")), said
        said = attempt(step, canary, "cat /link/hosts", volumes=(f"{tmp_path}/file:/link/hosts",))
        assert said == "of the volume\n" or (spelling == "loop" and said.startswith("error: ")), said
        said = attempt(step, canary, "echo fine", mounts=("type=tmpfs,target=/link/t",))
        assert said == "fine\n" or (spelling == "loop" and said.startswith("error: ")), said


@row("S64")
@pytest.mark.parametrize("target", ["/dev", "/proc/sys", "/sys/fs", "/proc", "/", "/dev/null"])
def test_a_volume_that_leads_to_what_is_the_kernels(step, canary, tmp_path, target):
    """The same for each isolation: some would mount it there, others below what comes after."""
    (tmp_path / "volume").mkdir()
    os.symlink(target, step.rootfs + "/link")
    said = attempt(step, canary, "echo fine", volumes=(f"{tmp_path}/volume:/link",))
    assert said.startswith(f"error: /link leads to {target} by links: the target"), said


@row("S50")
def test_a_file_of_the_step_that_leads_to_what_is_the_kernels(step, canary):
    """As machines with their root on a network have it (nfsroot.rst)."""
    os.symlink("/proc/self/comm", step.rootfs + "/etc/resolv.conf")
    assert attempt(step, canary, "cat /etc/resolv.conf") == "cat\n"


@row("S63")
def test_volumes_of_the_image_on_links(step, canary):
    for spelling in SPELLINGS:
        link(step, "/link", spelling, canary)
        image = ImageDefaults(env=("PATH=/bin",), volumes=("/link", "/link/deep"))
        said = attempt(step, canary, "echo fine", image=image)
        assert said == "fine\n" or (spelling in ("loop", "root") and said.startswith("error: ")), said


@row("S64")
def test_a_link_in_a_volume_for_what_lies_in_it(step, canary, tmp_path):
    """What the host shows at a volume has been written by somebody, too."""
    for name in ("volume", "inner", "volume/dev"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    os.symlink(str(canary), tmp_path / "volume/link")
    os.symlink("../" * 20 + str(canary), tmp_path / "volume/up")
    before = sorted(os.listdir(tmp_path / "volume"))
    for options in ("", ":O"):
        for place in ("link", "up"):
            volumes = (f"{tmp_path}/volume:/v{options}", f"{tmp_path}/inner:/v/{place}/deep")
            image = set(os.listdir(step.rootfs))
            said = attempt(step, canary, "echo fine", volumes=volumes)
            assert said == "fine\n"
            assert set(os.listdir(step.rootfs)) == image
    assert sorted(os.listdir(tmp_path / "volume")) == before


@row("S64")
@pytest.mark.parametrize("name", ["/dev", "/sys", "/proc"])
def test_a_volume_in_the_place_of_what_is_the_kernels(step, canary, tmp_path, name):
    """Runtimes make what belongs into /dev, and cgroups into /sys, by their names: in the volume, or nowhere."""
    (tmp_path / "volume").mkdir()
    for place in ("fs", "fd", "pts", "shm"):
        os.symlink(str(canary), tmp_path / f"volume/{place}")
    link(step, name, "up", canary)
    attempt(step, canary, "echo fine", volumes=(f"{tmp_path}/volume:{name}",), network="none")


@row("S31")
def test_devices_on_links(step, canary):
    for spelling in SPELLINGS:
        link(step, "/link", spelling, canary)
        link(step, "/dev", spelling, canary)
        for place in ("/link/deep/full", "/dev/deep/full"):
            said = attempt(step, canary, f"test -c {place} && echo fine", devices=(f"/dev/full:{place}",))
            assert said == "fine\n" or (
                spelling == "loop" and "/link" in place and said.startswith("error: ")
            ), said


@row("X35")
@pytest.mark.parametrize("kind", ["", "tmpfs", "proc", "sysfs"])
def test_mounts_of_CDI_on_links(step, canary, tmp_path, kind):
    """A proc or sysfs is mounted by runtimes without a look at the links above."""
    mount = {
        "hostPath": kind or "/usr",
        "containerPath": "/link/deep/m",
        "options": ["nosuid" if kind else "rbind"],
    }
    edits = {"mounts": [mount | ({"type": kind} if kind else {})]}
    devices = [{"name": "one", "containerEdits": edits}]
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi/thing.json").write_text(
        json.dumps({"cdiVersion": "0.6.0", "kind": "example.com/thing", "devices": devices})
    )
    for spelling in SPELLINGS:
        link(step, "/link", spelling, canary)
        fields = {
            "devices": ("example.com/thing=one",),
            "cdi_spec_dirs": (f"{tmp_path}/cdi",),
            "network": "none",
        }
        said = attempt(step, canary, "echo fine", **fields)
        if spelling != "loop" and kind in ("", "tmpfs"):
            assert said == "fine\n", said


@row("S13")
def test_a_working_directory_on_links(step, canary):
    """It stays, in the image; the host's is another."""
    for spelling in SPELLINGS:
        link(step, "/link", spelling, canary)
        host, top = listing(str(canary)), of_dev()
        try:
            step.run("touch made", cwd="/link/deep")
        except (HostError, OSError) as error:
            assert spelling == "loop", error
        assert listing(str(canary)) == host
        assert of_dev() == top
