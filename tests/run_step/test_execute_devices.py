"""Devices of the host in a step (rows S31, X35), under each isolation and runtime with the same result.

The nodes that are handed on are made for the tests: one that behaves as /dev/full, FUSE's, of which only the opening
matters, and a block device that is empty.
"""

import json
import os
import stat
from dataclasses import replace

import pytest
from busybox_root import listing, why_not_run
from crun_alone import crun, missing
from rows import row
from ways import Step, isolations

from run_step import HostError, IDMapping, RequestError, look_up, plan, probe

pytestmark = pytest.mark.root

NUMBERS = {"full": (stat.S_IFCHR, 1, 7), "fuse": (stat.S_IFCHR, 10, 229), "block": (stat.S_IFBLK, 7, 0)}
FULL = (
    "stat -c '%F %t %T' {0}; head -c 3 {0} | wc -c; (echo x > {0}) 2>&1 | grep -o 'No space left on device'"
)
SEEN = "character special file 1 7\n3\nNo space left on device\n"
OPENED = "(: < {0}) 2>/dev/null && echo read; (: >> {0}) 2>/dev/null && echo written; true"


NOT_HELD = (
    "the device /dev/mine has the permissions {!r}, which can't be enforced: isolation {} has no device cgroup "
    "here, only the node's mode counts"
)


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def step(confined_step):
    return confined_step


@pytest.fixture
def node(tmp_path):
    """Makes a node of the host, open to all."""

    def make(kind, path="node", mode=0o666):
        full = tmp_path / path
        full.parent.mkdir(parents=True, exist_ok=True)
        form, major, minor = NUMBERS[kind]
        os.mknod(full, form, os.makedev(major, minor))
        os.chmod(full, mode)
        return str(full)

    return make


def has_rules(step):
    """Whether there is a device cgroup: root's steps of an OCI runtime have one."""
    return step.isolation == "oci"


def warnings(step, *args, **fields):
    """What the plan warns of."""
    if isinstance(step, Step):
        return list(step.plan(*args, **fields).warnings)
    return step.ask(step.request(*args, **fields), run=False)["warnings"]


@row("S31")
def test_a_device_is_where_it_is_wanted(runtime_step, node):
    step = runtime_step
    with open(f"{step.rootfs}/root/there", "w", encoding="ascii") as stream:
        stream.write("kept")
    device = node("full")
    before = listing(step.rootfs)
    for place in ("/dev/mine", "/dev/a/b/mine", "/opt/a/mine", "/root/there", "/tmp/../dev/mine"):
        assert step.text(FULL.format(place), devices=(f"{device}:{place}",)) == SEEN, place
        assert listing(step.rootfs) == before, place


@row("S31")
def test_without_a_place_it_is_where_the_host_has_it(step, node):
    device = node("full")
    before = listing(step.rootfs)
    assert step.text(FULL.format(device), devices=(device,)) == SEEN
    assert listing(step.rootfs) == before


@row("S31")
def test_a_block_device_and_a_link_to_one(step, node, tmp_path):
    os.symlink(node("block"), tmp_path / "by-name")
    line = "stat -c '%F %t %T' /dev/disk; head -c 1 /dev/disk | wc -c"
    assert step.text(line, devices=(f"{tmp_path}/by-name:/dev/disk:r",)) == "block special file 7 0\n0\n"


@row("X35")
def test_a_directory_stands_for_its_devices(step, node, tmp_path):
    for name in ("one", "deep/two", "pts/0", "deep/fd/9"):
        node("full", f"devices/{name}")
    os.symlink("one", tmp_path / "devices/link")
    os.symlink("..", tmp_path / "devices/loop")
    os.mkfifo(tmp_path / "devices/pipe")
    (tmp_path / "devices/file").touch()
    line = "cd /dev/all && find . -type c | sort && head -c 2 deep/two | wc -c"
    assert step.text(line, devices=(f"{tmp_path}/devices:/dev/all",)) == "./deep/two\n./one\n2\n"


@row("X35")
def test_a_later_device_replaces_an_earlier_one(step, node, tmp_path):
    node("fuse", "devices/x")
    devices = (f"{tmp_path}/devices:/dev/all", f"{node('full')}:/dev/all/x")
    assert step.text(FULL.format("/dev/all/x"), devices=devices) == SEEN


@row("S31")
def test_permissions_hold_where_there_is_a_device_cgroup(runtime_step, node):
    step = runtime_step
    device = node("fuse")
    for permissions in ("r", "w", "rw", "rm", "rwm"):
        devices = (f"{device}:/dev/mine:{permissions}",)
        text = step.text(OPENED.format("/dev/mine"), devices=devices)
        wanted = "".join(
            word for letter, word in (("r", "read\n"), ("w", "written\n")) if letter in permissions
        )
        assert text == (wanted if has_rules(step) else "read\nwritten\n"), permissions
        told = [text for text in warnings(step, "true", devices=devices) if "/dev/mine" in text]
        held = has_rules(step) or {"r", "w"} <= set(permissions)
        assert told == ([] if held else [NOT_HELD.format(permissions, step.isolation)])


@row("S31")
def test_a_device_that_was_not_given_can_not_be_opened(runtime_step, node):
    """With devices and without, whoever makes the node. What an image brings is made by the user who unpacks it."""
    step = runtime_step
    places = ["/tmp/made", "/dev/fuse"]
    if step.isolation != "rootless":
        places.append("/brought")
        os.mknod(f"{step.rootfs}/brought", stat.S_IFCHR | 0o666, os.makedev(10, 229))
        os.chmod(f"{step.rootfs}/brought", 0o666)
    line = (
        f"mknod /tmp/made c 10 229; for one in {' '.join(places)}; do (: < $one) && echo $one; done; echo end"
    )
    for devices in ((), (f"{node('full')}:/dev/mine",)):
        assert step.text(line, devices=devices) == "end\n"


@row("S31")
def test_a_nodes_mode_counts(step, node):
    """The host's root may open all; in a user namespace nobody is that."""
    devices = (f"{node('fuse', mode=0o600)}:/dev/mine",)
    assert step.text(OPENED.format("/dev/mine"), devices=devices, user="bob") == ""
    by_root = isinstance(step, Step) or step.isolation == "oci"
    assert step.text(OPENED.format("/dev/mine"), devices=devices) == ("read\nwritten\n" if by_root else "")


@row("S31")
def test_the_hosts_own_node_stays_as_it_is(runtime_step, node):
    step = runtime_step
    path = node("full")
    before = os.stat(path)
    for place in ("/dev/mine", "/opt/mine"):
        line = (
            f"chmod 0 {place}; chown 1:1 {place}; touch -d @0 {place}; rm -f {place}; mv {place} /tmp/x; true"
        )
        step.text(line, devices=(f"{path}:{place}",))
        after = os.stat(path)
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert after.st_mtime_ns == before.st_mtime_ns


@row("S31")
def test_in_a_volume_no_node_stays(step, node, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o777)
    volume.chmod(0o777)
    text = step.text(FULL.format("/v/mine"), devices=(f"{node('full')}:/v/mine",), volumes=(f"{volume}:/v",))
    assert text == SEEN
    assert not [path for path in volume.iterdir() if not path.is_file()]


@row("S31")
def test_a_volume_counts_before_a_device(step, node, tmp_path):
    (tmp_path / "file").write_text("of the volume")
    devices, volumes = (f"{node('full')}:/opt/mine",), (f"{tmp_path}/file:/opt/mine",)
    assert step.text("cat /opt/mine", devices=devices, volumes=volumes) == "of the volume"


@row("S31")
def test_the_usual_devices_may_be_given(step):
    line = "echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; ls -l /dev/ptmx | wc -l"
    devices = ("/dev/null", "/dev/zero:r", "/dev/urandom", "/dev/ptmx")
    assert step.text(line, devices=devices) == "2\n1\n1\n"


@row("S31")
def test_a_command_that_cannot_be_run_leaves_no_place(step, node):
    before = listing(step.rootfs)
    with pytest.raises(HostError):
        step.run("/none", "x", devices=(f"{node('full')}:/opt/a/mine",))
    assert listing(step.rootfs) == before


@row("S43")
@pytest.mark.parametrize("runtime_step", [*isolations(), "oci of crun"], indirect=True)
def test_with_id_maps(runtime_step, node):
    """Root with a user namespace for the step: the host's node, as an ordinary user has it."""
    step = runtime_step
    maps = {"uid_map": (IDMapping(0, 200_000, 65536),), "gid_map": (IDMapping(0, 300_000, 65536),)}
    maps["network"] = "host"
    before = listing(step.rootfs)
    for place in ("/dev/mine", "/opt/mine"):
        assert step.text(FULL.format(place), devices=(f"{node('full', place[1:])}:{place}",), **maps) == SEEN
    fuse = f"{node('fuse')}:/dev/mine:r"
    text = step.text(OPENED.format("/dev/mine"), devices=(fuse,), **maps)
    assert text == ("read\n" if has_rules(step) else "read\nwritten\n")
    assert listing(step.rootfs) == before


@row("S31")
@pytest.mark.parametrize(
    ("device", "error", "words"),
    [
        (
            "/none/x",
            HostError,
            "'/none/x': this host has no device /none/x, nor a directory of that name with devices",
        ),
        ("/etc/passwd", HostError, "this host has no device /etc/passwd"),
        ("{empty}", HostError, "with devices in it that can be read"),
        (
            "{node}:/dev/null",
            RequestError,
            "the device /dev/null can't be another one: every step has its own there",
        ),
        ("{node}:/dev/stdin", RequestError, "the device /dev/stdin can't be another one"),
        ("{node}:/etc", RequestError, "the device /etc can't be put there: that is a directory in the image"),
        ("{node}:/", RequestError, "the root directory can't be a device"),
        ("{node}:/a:rr", RequestError, "permissions 'rr' are not made of r, w and m"),
    ],
)
@pytest.mark.parametrize("isolation", ["oci", "chroot", "rootless"])
def test_what_can_not_be_given_is_told(ask, host, node, tmp_path, isolation, device, error, words):
    (tmp_path / "empty").mkdir()
    device = device.format(node=node("fuse"), empty=tmp_path / "empty")
    request = ask(devices=(device,), isolation=isolation)
    with pytest.raises(error) as caught:
        plan(request, look_up(request, host))
    assert words in str(caught.value)


@row("S31")
def test_a_directory_that_a_user_can_not_read_is_told(confined_step, tmp_path):
    (tmp_path / "closed/a").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o711)
    (tmp_path / "closed/a").chmod(0o700)
    if isinstance(confined_step, Step):
        return  # root reads all
    with pytest.raises(
        HostError, match=r"the directory of devices \S+/closed/a can't be read: Permission denied"
    ):
        confined_step.run("true", devices=(f"{tmp_path}/closed/a",))


@row("S31")
def test_where_no_node_can_be_made_the_hosts_is_shown(ask, host, node):
    """Root without CAP_MKNOD: a container that may mount."""
    request = ask(devices=(f"{node('full')}:/dev/mine",))
    less = replace(host, capabilities=tuple(name for name in host.capabilities if name != "MKNOD"))
    made = plan(request, look_up(request, less))
    assert "devices" not in made.spec["linux"]
    assert made.spec["mounts"][-1]["destination"] == "/dev/mine"


SCRIPT = """\
#!/bin/sh
state=$(cat)
echo "$VENDOR_DEBUG $* $state" > {0}/ran
"""


@pytest.fixture
def vendor(tmp_path, node):
    """A CDI directory as a vendor fills it: control node, library, a directory, a device; a hook where asked for."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libvendor.so.1").write_text("library")
    (tmp_path / "run").mkdir(mode=0o777)
    (tmp_path / "run").chmod(0o777)
    (tmp_path / "run/socket").write_text("here")
    (tmp_path / "run/socket").chmod(0o666)
    (tmp_path / "hook").write_text(SCRIPT.format(tmp_path / "run"))
    (tmp_path / "hook").chmod(0o755)

    def make(hooks=()):
        spec = {
            "cdiVersion": "0.7.0",
            "kind": "vendor.com/gpu",
            "devices": [
                {
                    "name": "0",
                    "containerEdits": {
                        "env": ["VENDOR_INDEX=0"],
                        "deviceNodes": [{"path": "/dev/vendor0", "hostPath": node("full", "gpu0")}],
                    },
                }
            ],
            "containerEdits": {
                "env": ["VENDOR_DRIVER=550.54"],
                "deviceNodes": [
                    {"path": "/dev/vendorctl", "hostPath": node("fuse", "ctl"), "permissions": "rw"}
                ],
                "mounts": [
                    {
                        "hostPath": f"{tmp_path}/lib/libvendor.so.1",
                        "containerPath": "/usr/lib/libvendor.so",
                        "options": ["ro", "nosuid", "nodev", "bind"],
                    },
                    {
                        "hostPath": f"{tmp_path}/run",
                        "containerPath": "/run/vendor",
                        "options": ["rbind", "rw"],
                    },
                ],
                "hooks": list(hooks),
                "additionalGids": [44],
            },
        }
        (tmp_path / "cdi").mkdir()
        (tmp_path / "cdi/vendor.json").write_text(json.dumps(spec))
        (tmp_path / "cdi/broken.yaml").write_text("{")
        return {"devices": ("vendor.com/gpu=0",), "cdi_spec_dirs": (f"{tmp_path}/cdi",)}

    return make


CDI = """
echo $VENDOR_DRIVER $VENDOR_INDEX
cat /usr/lib/libvendor.so /run/vendor/socket; echo
(echo x > /usr/lib/libvendor.so) 2>/dev/null || echo read-only
echo changed > /run/vendor/socket
"""


@row("X35")
def test_a_vendors_device(runtime_step, vendor, tmp_path):
    step = runtime_step
    asked = vendor()
    before = listing(step.rootfs)
    text = step.text(CDI + FULL.format("/dev/vendor0") + "\n" + OPENED.format("/dev/vendorctl"), **asked)
    assert text == f"550.54 0\nlibraryhere\nread-only\n{SEEN}read\nwritten\n"
    assert (tmp_path / "run/socket").read_text() == "changed\n"
    assert listing(step.rootfs) == before
    groups = step.text("id -G", **asked)
    assert groups == ("0\n" if step.isolation == "rootless" else "0 44\n")


@row("X35")
def test_a_vendors_hook_runs(runtime_step, vendor, tmp_path):
    step = runtime_step
    hook = {
        "hookName": "createRuntime",
        "path": f"{tmp_path}/hook",
        "args": ["hook", "ldconfig", "-x"],
        "env": ["VENDOR_DEBUG=no"],
        "timeout": 10,
    }
    asked = vendor([hook])
    if step.isolation == "chroot":
        with pytest.raises(
            HostError, match=r"vendor.json has the hook .*/hook, and hooks need an OCI runtime"
        ):
            step.run("true", **asked)
        assert not (tmp_path / "run/ran").exists()
        return
    assert step.text("echo $VENDOR_INDEX", **asked) == "0\n"
    words, _, state = (tmp_path / "run/ran").read_text().partition("{")
    assert words == "no ldconfig -x "
    assert json.loads("{" + state)["pid"] > 0


@row("S31")
def test_crun_says_what_it_needs(rootfs, tmp_path, host):
    """Without the privilege for its filter no step runs, rather than one that has all devices."""
    reason = why_not_run() or missing()
    if reason:
        pytest.skip(reason)
    with crun("oci", rootfs, tmp_path, host) as step:
        step.runtime = "crun"
        if "SYS_RESOURCE" in probe(runtimes=False).capabilities:
            assert step.run("true").status == 0
            return
        with pytest.raises(HostError, match=r"RLIM_MEMLOCK.*needs CAP_SYS_RESOURCE.*use --runtime runc"):
            step.run("true")
