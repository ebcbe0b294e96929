"""CDI (row X35): specifications of the Container Device Interface, found, judged and put into a plan.

The example is what a vendor of GPUs installs: control nodes and libraries for all of its devices, one node for each.
"""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from rows import row

from run_step import HostError, RequestError, look_up, plan
from run_step.host import DeviceFact, PathFact, TextFile
from run_step.pipeline.devices import parse

GPU = {
    "cdiVersion": "0.7.0",
    "kind": "vendor.com/gpu",
    "annotations": {"vendor.com/driver": "550.54"},
    "devices": [
        {
            "name": str(number),
            "annotations": {"vendor.com/uuid": f"GPU-{number}"},
            "containerEdits": {
                "env": [f"VENDOR_INDEX={number}"],
                "deviceNodes": [
                    {"path": f"/dev/vendor{number}"},
                    {"path": f"/dev/dri/card{number}", "permissions": "rw"},
                ],
            },
        }
        for number in range(2)
    ],
    "containerEdits": {
        "env": ["VENDOR_VISIBLE_DEVICES=void", "VENDOR_DRIVER=550.54=x"],
        "deviceNodes": [
            {"path": "/dev/vendorctl", "hostPath": "/dev/vendor-control", "fileMode": 0o660, "gid": 44}
        ],
        "mounts": [
            {
                "hostPath": "/usr/lib/libvendor.so.550",
                "containerPath": "/usr/lib/libvendor.so.1",
                "options": ["ro", "nosuid", "nodev", "bind"],
            },
            {"hostPath": "/run/vendor", "containerPath": "/run/vendor"},
        ],
        "hooks": [
            {
                "hookName": "createContainer",
                "path": "/usr/bin/vendor-ctk",
                "args": ["vendor-ctk", "hook", "update-ldcache", "--folder", "/usr/lib"],
                "env": ["VENDOR_DEBUG=false"],
                "timeout": 10,
            }
        ],
        "additionalGids": [0, 44],
    },
}
NODES = tuple(
    DeviceFact(path, "c", major, minor, 0o666)
    for path, major, minor in (
        ("/dev/vendor0", 195, 0),
        ("/dev/vendor1", 195, 1),
        ("/dev/dri/card0", 226, 0),
        ("/dev/dri/card1", 226, 1),
        ("/dev/vendor-control", 195, 255),
    )
)
PATHS = (PathFact("/usr/lib/libvendor.so.550", False), PathFact("/run/vendor", True))
ALLOWED = {"allow": True, "type": "c"}


def edited(**changes):
    """The example with other containerEdits for all devices."""
    spec = copy.deepcopy(GPU)
    spec["containerEdits"] = changes
    return spec


def files(*specs, directory="/etc/cdi"):
    texts = [spec if isinstance(spec, str) else json.dumps(spec) for spec in specs]
    return tuple(TextFile(f"{directory}/{number}.json", text) for number, text in enumerate(texts))


@pytest.fixture
def facts(host):
    return replace(host, devices=NODES, paths=PATHS, cdi_specs=files(GPU))


def devices(made):
    return {item["path"]: item for item in made.spec["linux"].get("devices", [])}


def rules(made):
    first, *others = made.spec["linux"]["resources"]["devices"]
    assert first == {"allow": False, "access": "rwm"}
    return others


@row("X35")
def test_a_vendors_example(ask, facts):
    made = plan(ask(devices=("vendor.com/gpu=1",)), facts)
    assert {"VENDOR_DRIVER=550.54=x", "VENDOR_VISIBLE_DEVICES=void", "VENDOR_INDEX=1"} <= set(
        made.spec["process"]["env"]
    )
    assert list(devices(made)) == ["/dev/vendorctl", "/dev/vendor1", "/dev/dri/card1"]
    assert devices(made)["/dev/vendorctl"] == {
        "type": "c", "path": "/dev/vendorctl", "major": 195, "minor": 255, "fileMode": 0o660, "uid": 0, "gid": 44,
    }  # fmt: skip
    assert rules(made) == [
        {**ALLOWED, "major": 195, "minor": 255, "access": "rwm"},
        {**ALLOWED, "major": 195, "minor": 1, "access": "rwm"},
        {**ALLOWED, "major": 226, "minor": 1, "access": "rw"},
    ]
    mounts = {item["destination"]: item for item in made.spec["mounts"]}
    assert mounts["/usr/lib/libvendor.so.1"] == {
        "destination": "/usr/lib/libvendor.so.1",
        "type": "bind",
        "source": "/usr/lib/libvendor.so.550",
        "options": ["ro", "nosuid", "nodev", "bind"],
    }
    assert mounts["/run/vendor"]["options"] == ["rbind", "private"]
    hook = {key: value for key, value in GPU["containerEdits"]["hooks"][0].items() if key != "hookName"}
    assert made.spec["hooks"] == {"createContainer": [hook]}
    assert made.spec["process"]["user"]["additionalGids"] == [0, 44]
    assert "annotations" not in made.spec and made.warnings == ()


@row("X35")
def test_two_devices_of_a_file_have_its_own_edits_once(ask, facts):
    made = plan(ask(devices=("vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/gpu=0")), facts)
    assert len(made.spec["hooks"]["createContainer"]) == 1
    assert list(devices(made)) == [
        *("/dev/vendorctl", "/dev/vendor0", "/dev/dri/card0", "/dev/vendor1", "/dev/dri/card1")
    ]
    assert made.spec["process"]["env"].count("VENDOR_INDEX=1") == 1


@row("X35")
def test_yaml_says_the_same(ask, facts):
    wanted = ask(devices=("vendor.com/gpu=0",))
    text = "# made by the driver\n---\n" + yaml.safe_dump(GPU)
    by_yaml = replace(facts, cdi_specs=(TextFile("/etc/cdi/vendor.yaml", text),))
    assert plan(wanted, by_yaml) == plan(wanted, facts)
    octal = text.replace("fileMode: 432", "fileMode: 0660")
    assert octal != text
    assert (
        plan(wanted, replace(facts, cdi_specs=(TextFile("/a/b.yaml", octal),))).spec
        == plan(wanted, facts).spec
    )


@row("X35")
def test_what_is_null_is_not_there(ask, facts):
    spec = edited(mounts=None, hooks=None, additionalGIDs=[7]) | {"annotations": None}
    made = plan(ask(devices=("vendor.com/gpu=0",)), replace(facts, cdi_specs=files(spec)))
    assert "hooks" not in made.spec
    assert made.spec["process"]["user"]["additionalGids"] == [0, 7]


def wrong(**changes):
    return {**copy.deepcopy(GPU), **changes}


@row("X35")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{", "it is not JSON"),
        ("[]", "[] is not of type 'object'"),
        ({"kind": "vendor.com/gpu"}, "required property"),
        (wrong(cdiVersion="0.2.0"), "cdiVersion: '0.2.0' is not one of"),
        (wrong(cdiVersion="1.1.0"), "cdiVersion: '1.1.0' is not one of"),
        (wrong(kind="gpu"), "kind: 'gpu' does not match"),
        (wrong(kind="vendor.com/gpu/x"), "kind: "),
        (wrong(kind="vendor.com/-gpu"), "kind: "),
        (wrong(kind="vendor.com/" + "x" * 64), "kind: "),
        (wrong(devices=[]), "devices: [] "),
        (wrong(devices=[{"name": "-"}]), "devices[0].name: '-' does not match"),
        (wrong(devices=[{"name": "a"}, {"name": "a"}]), "the device 'a' twice"),
        (wrong(containerSpec={}), "containerSpec"),
        (wrong(annotations={"a": 1}), "annotations.a: 1 is not of type 'string'"),
        (edited(env=["A"]), "containerEdits.env[0]: 'A' does not match"),
        (edited(env="A=1"), "containerEdits.env: 'A=1' is not of type 'array'"),
        (edited(netDevices=[]), "netDevices"),
        (
            edited(deviceNodes=[{"hostPath": "/dev/x"}]),
            "containerEdits.deviceNodes[0]: 'path' is a required property",
        ),
        (edited(deviceNodes=[{"path": "dev/x"}]), "deviceNodes[0].path: 'dev/x' does not match"),
        (
            edited(deviceNodes=[{"path": "/dev/x", "type": "char"}]),
            "deviceNodes[0].type: 'char' is not one of",
        ),
        (edited(deviceNodes=[{"path": "/dev/x", "major": -1}]), "deviceNodes[0].major: -1 is less than"),
        (
            edited(deviceNodes=[{"path": "/dev/x", "permissions": "rx"}]),
            "deviceNodes[0].permissions: 'rx' does not",
        ),
        (edited(mounts=[{"hostPath": "/a"}]), "mounts[0]: 'containerPath' is a required property"),
        (
            edited(mounts=[{"hostPath": "/a", "containerPath": "b"}]),
            "mounts[0].containerPath: 'b' does not match",
        ),
        (
            edited(mounts=[{"hostPath": "/a", "containerPath": "/b", "options": "ro"}]),
            "options: 'ro' is not of type",
        ),
        (edited(hooks=[{"hookName": "early", "path": "/x"}]), "hooks[0].hookName: 'early' is not one of"),
        (edited(hooks=[{"hookName": "poststop", "path": "x"}]), "hooks[0].path: 'x' does not match"),
        (
            edited(hooks=[{"hookName": "poststop", "path": "/x", "timeout": 0}]),
            "hooks[0].timeout: 0 is less than",
        ),
        (edited(additionalGids=[-1]), "additionalGids[0]: -1 is less than"),
        (edited(intelRdt={"closID": 1}), "intelRdt.closID: 1 is not of type"),
    ],
)
def test_what_is_no_specification_is_told_with_its_place(ask, facts, spec, words):
    broken = replace(facts, cdi_specs=files(spec))
    with pytest.raises(HostError) as caught:
        plan(ask(devices=("vendor.com/gpu=0",)), broken)
    assert "the CDI specification /etc/cdi/0.json can't be used: " in str(caught.value)
    assert words in str(caught.value)


@row("X35")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "it is not YAML that can be written as JSON: while parsing"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("&a [*a]", "Circular reference"),
        ("kind: 2026-01-01", "not JSON serializable"),
        ("{cdiVersion: 0.6, kind: a/b, devices: [{name: a}]}", "cdiVersion: 0.6 is not one of"),
        ("1: 2", "'1' was unexpected"),
        ("", "None is not of type 'object'"),
    ],
)
def test_yaml_is_data_alone(ask, facts, text, words):
    broken = replace(facts, cdi_specs=(TextFile("/etc/cdi/a.yaml", text),))
    with pytest.raises(HostError) as caught:
        plan(ask(devices=("vendor.com/gpu=0",)), broken)
    assert "the CDI specification /etc/cdi/a.yaml can't be used: " in str(caught.value)
    assert words in str(caught.value)


@row("X35")
@pytest.mark.parametrize(
    ("version", "spec", "what"),
    [
        (
            "0.4.0",
            edited(mounts=[{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]),
            "the type of a mount",
        ),
        ("0.5.0", edited(deviceNodes=[{"path": "/dev/a", "hostPath": "/dev/b"}]), "hostPath"),
        (
            "0.5.0",
            wrong(containerEdits={}, devices=[{"name": "0"}]),
            "a device name that begins with a digit",
        ),
        ("0.6.0", wrong(containerEdits={}, devices=[{"name": "a"}]), "annotations"),
        ("0.6.0", {"kind": "vendor.com/g.pu", "devices": [{"name": "a"}]}, "a dot in the class of a kind"),
        (
            "0.7.0",
            {"kind": "a/b", "devices": [{"name": "a", "containerEdits": {"additionalGids": [1]}}]},
            "Gids",
        ),
        (
            "0.7.0",
            {"kind": "a/b", "devices": [{"name": "a", "containerEdits": {"intelRdt": {}}}]},
            "intelRdt",
        ),
    ],
)
def test_what_a_version_has_not_yet_is_refused(ask, facts, version, spec, what):
    known = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0")
    spec = {key: value for key, value in spec.items() if key != "annotations" or what == "annotations"}
    if what in ("the type of a mount", "hostPath"):
        spec["devices"] = [{"name": "a"}]
    name = f"{spec['kind']}={spec['devices'][0]['name']}"
    for one in known:
        with pytest.raises(HostError) as caught:
            plan(
                ask(devices=(name, "missing.com/a=b")),
                replace(facts, cdi_specs=files({**spec, "cdiVersion": one})),
            )
        told = f"{what} needs cdiVersion {version} or later, and it says {one}"
        assert (told in str(caught.value).replace("additionalGids", "Gids")) is (
            known.index(one) < known.index(version)
        )


@row("X35")
def test_a_broken_file_is_no_harm_to_others(ask, facts):
    unread = TextFile("/etc/cdi/b.json", "", "it can't be read: Permission denied")
    beside = replace(
        facts,
        cdi_specs=(*files("{", wrong(kind="other.com/x", devices=0)), unread, *files(GPU, directory="/x")),
    )
    assert plan(ask(devices=("vendor.com/gpu=0",)), beside) == plan(ask(devices=("vendor.com/gpu=0",)), facts)
    with pytest.raises(HostError) as caught:
        plan(ask(devices=("vendor.com/gpu=7",)), beside)
    for words in (
        "the device 'vendor.com/gpu=7' is not known to CDI: known are vendor.com/gpu=0, vendor.com/gpu=1;",
        "/etc/cdi/0.json can't be used: it is not JSON",
        "/etc/cdi/1.json can't be used: devices: 0 is not of type 'array'",
        "/etc/cdi/b.json can't be used: it can't be read: Permission denied",
    ):
        assert words in str(caught.value)


@row("X35")
def test_a_broken_file_of_the_same_kind_is_told(ask, facts):
    beside = replace(facts, cdi_specs=(*files(wrong(devices=[])), *files(GPU, directory="/x")))
    (warning,) = plan(ask(devices=("vendor.com/gpu=0",)), beside).warnings
    assert (
        warning
        == "the CDI specification /etc/cdi/0.json can't be used: devices: [] should be non-empty; it is left out"
    )


@row("X35")
def test_an_unknown_kind_says_where_was_looked(ask, facts):
    with pytest.raises(HostError, match="no CDI specification of that kind is in /etc/cdi, /var/run/cdi"):
        plan(ask(devices=("other.com/gpu=0",)), facts)
    with pytest.raises(HostError, match=r"no CDI specification of that kind is in /srv/cdi$"):
        plan(ask(devices=("other.com/gpu=0",), cdi_spec_dirs=("/srv/cdi",)), facts)


def one(value, **more):
    return {
        "cdiVersion": "0.3.0",
        "kind": "vendor.com/net",
        "devices": [{"name": "a", "containerEdits": {"env": [f"FROM={value}"], **more}}],
    }


@row("X35")
def test_the_last_directory_counts(ask, facts):
    specs = (*files(one("etc"), directory="/etc/cdi"), *files(one("run"), directory="/var/run/cdi"))
    made = plan(ask(devices=("vendor.com/net=a",)), replace(facts, cdi_specs=specs))
    assert "FROM=run" in made.spec["process"]["env"] and "FROM=etc" not in made.spec["process"]["env"]


@row("X35")
def test_two_files_of_a_directory_must_not_have_the_same_device(ask, facts):
    specs = files(one("x"), one("y"))
    with pytest.raises(
        HostError, match=r"'vendor.com/net=a' is in /etc/cdi/0.json and /etc/cdi/1.json: .*remove it"
    ):
        plan(ask(devices=("vendor.com/net=a",)), replace(facts, cdi_specs=specs))
    above = (*specs, *files(one("run"), directory="/var/run/cdi"))
    assert (
        "FROM=run"
        in plan(ask(devices=("vendor.com/net=a",)), replace(facts, cdi_specs=above)).spec["process"]["env"]
    )
    other = files(one("x"), one("y"), GPU)
    assert plan(ask(devices=("vendor.com/gpu=0",)), replace(facts, cdi_specs=other)).warnings == ()


@row("X35")
@pytest.mark.parametrize(
    "name",
    [
        "vendor.com/gpu=0",
        "v/c=n",
        "nvidia.com/gpu=GPU-1:2.x_y",
        "3com.com/net=0",
        "a-b.c_d/E.F-g=h",
        "v/" + "c" * 63 + "=a",
    ],
)
def test_a_qualified_name_is_taken_for_one(name):
    assert parse(name) == (name, "", "")


@row("X35")
@pytest.mark.parametrize(
    "name",
    [
        *(
            "vendor.com/gpu=",
            "=0",
            "vendor.com=0",
            "vendor.com/=0",
            "vendor.com/a/b=0",
            "vendor.com/gpu=-0",
        ),
        *(
            "vendor.com/gpu=0-",
            "vendor.com/gpu=a/b",
            "-v/c=n",
            "v-/c=n",
            "v/c-=n",
            "v/-c=n",
            "v/c=ä",
            "vä/c=n",
            "v/c=a b",
        ),
        *("v/" + "c" * 64 + "=a", "v/c=a\n"),
    ],
)
def test_what_is_no_name(name):
    with pytest.raises(RequestError) as caught:
        parse(name)
    assert repr(name) in str(caught.value) and "vendor.com/class=name" in str(caught.value)


@row("X35")
def test_a_devices_edits_replace_those_of_all(ask, facts):
    node = {"path": "/dev/a", "hostPath": "/dev/vendor0"}
    mount = {"hostPath": "/run/vendor", "containerPath": "/m/"}
    spec = wrong(
        containerEdits={"env": ["A=1"], "deviceNodes": [node], "mounts": [mount]},
        devices=[
            {
                "name": "x",
                "containerEdits": {
                    "env": ["A=2"],
                    "deviceNodes": [{**node, "hostPath": "/dev/vendor1", "permissions": "r"}],
                    "mounts": [{**mount, "containerPath": "/m", "options": ["ro"]}],
                },
            }
        ],
    )
    made = plan(ask(devices=("vendor.com/gpu=x",)), replace(facts, cdi_specs=files(spec)))
    assert [entry for entry in made.spec["process"]["env"] if entry.startswith("A=")] == ["A=2"]
    assert devices(made)["/dev/a"]["minor"] == 1
    assert rules(made) == [{**ALLOWED, "major": 195, "minor": 1, "access": "r"}]
    assert [item["options"] for item in made.spec["mounts"] if item["destination"] == "/m"] == [
        ["ro", "rbind"]
    ]


def node_of(ask, facts, **node):
    spec = edited(deviceNodes=[node]) | {"devices": [{"name": "x"}]}
    return plan(ask(devices=("vendor.com/gpu=x",), user="bob"), replace(facts, cdi_specs=files(spec)))


@row("X35")
def test_what_a_node_leaves_out(ask, facts):
    made = node_of(ask, facts, path="/dev/a", hostPath="/dev/vendor0")
    assert devices(made)["/dev/a"] == {
        "type": "c", "path": "/dev/a", "major": 195, "minor": 0, "fileMode": 0o666, "uid": 1000, "gid": 1000,
    }  # fmt: skip
    own = node_of(
        ask,
        facts,
        path="/dev/a",
        type="u",
        major=7,
        minor=3,
        fileMode=0o20600,
        uid=1,
        gid=2,
        permissions="mr",
    )
    assert devices(own)["/dev/a"] == {
        "type": "c", "path": "/dev/a", "major": 7, "minor": 3, "fileMode": 0o600, "uid": 1, "gid": 2,
    }  # fmt: skip
    assert rules(own) == [{**ALLOWED, "major": 7, "minor": 3, "access": "rm"}]
    assert rules(node_of(ask, facts, path="/dev/vendor0", permissions="none")) == []
    pipe = node_of(ask, facts, path="/dev/pipe", type="p")
    assert devices(pipe)["/dev/pipe"]["type"] == "p" and "major" not in devices(pipe)["/dev/pipe"]
    assert rules(pipe) == []


@row("X35")
def test_a_node_that_the_host_lacks_is_told(ask, facts):
    with pytest.raises(
        HostError, match=r"CDI specification /etc/cdi/0.json: the device /dev/none does not exist on"
    ):
        node_of(ask, facts, path="/dev/none")
    with pytest.raises(HostError, match=r"the device /dev/vendor0 is of type c on this host, not b"):
        node_of(ask, facts, path="/dev/vendor0", type="b")
    with pytest.raises(
        HostError, match=r"/opt/a has only a number on this host, and outside of the step's /dev"
    ):
        node_of(ask, facts, path="/opt/a", type="c", major=7)


@row("X35")
def test_a_mount_that_the_host_lacks_is_told(ask, facts):
    spec = edited(mounts=[{"hostPath": "/none", "containerPath": "/a"}])
    with pytest.raises(
        HostError, match=r"specification /etc/cdi/0.json: /none, which it mounts, does not exist"
    ):
        plan(ask(devices=("vendor.com/gpu=0",)), replace(facts, cdi_specs=files(spec)))
    root = edited(mounts=[{"hostPath": "/run/vendor", "containerPath": "/a/.."}])
    with pytest.raises(HostError, match="mounts /run/vendor on the root directory"):
        plan(ask(devices=("vendor.com/gpu=0",)), replace(facts, cdi_specs=files(root)))


@row("X35")
def test_mounts_of_other_types(ask, facts):
    spec = edited(
        mounts=[
            {"hostPath": "tmpfs", "containerPath": "/a", "type": "tmpfs", "options": ["nosuid", "size=1m"]},
            {"hostPath": "/run/vendor", "containerPath": "/b", "type": "none", "options": ["bind", "ro"]},
        ]
    )
    made = plan(ask(devices=("vendor.com/gpu=0",)), replace(facts, cdi_specs=files(spec)))
    mounts = {item["destination"]: item for item in made.spec["mounts"]}
    assert mounts["/a"]["type"] == "tmpfs" and mounts["/a"]["options"] == ["nosuid", "size=1m"]
    assert mounts["/b"]["type"] == "bind" and mounts["/b"]["options"] == ["bind", "ro"]


@row("X35")
def test_a_volume_counts_before_a_mount_of_cdi(ask, facts):
    request = ask(devices=("vendor.com/gpu=0",), volumes=("/:/run/vendor",))
    made = plan(request, replace(facts, paths=(*PATHS, PathFact("/", True))))
    assert [item["source"] for item in made.spec["mounts"] if item["destination"] == "/run/vendor"] == ["/"]


@row("X35")
def test_hooks_need_a_runtime(ask, facts):
    with pytest.raises(HostError) as caught:
        plan(ask(devices=("vendor.com/gpu=0",), isolation="chroot"), facts)
    assert str(caught.value) == (
        "the CDI specification /etc/cdi/0.json has the hook /usr/bin/vendor-ctk, and hooks need an OCI runtime: use "
        "--isolation oci or rootless, or another device"
    )


@row("X35")
def test_intel_rdt_is_refused(ask, facts):
    spec = wrong(devices=[{"name": "a", "containerEdits": {"intelRdt": {"closID": "x"}}}, {"name": "b"}])
    facts = replace(facts, cdi_specs=files(spec))
    with pytest.raises(
        HostError, match=r"the CDI device 'vendor.com/gpu=a' \(/etc/cdi/0.json\) wants Intel RDT"
    ):
        plan(ask(devices=("vendor.com/gpu=a",)), facts)
    assert plan(ask(devices=("vendor.com/gpu=b",)), facts)


@row("X35")
def test_the_additional_groups_of_a_device(ask, facts):
    spec = edited(additionalGids=[0, 7, 44])
    facts = replace(facts, cdi_specs=files(spec))
    made = plan(ask(devices=("vendor.com/gpu=0",), user="bob", group_add=("44",)), facts)
    assert made.spec["process"]["user"]["additionalGids"] == [7, 29, 44, 50, 1000]
    rootless = plan(ask(devices=("vendor.com/gpu=0",), isolation="rootless"), facts)
    assert rootless.spec["process"]["user"]["additionalGids"] == [0]
    assert "CDI's groups (7, 44) are left out: rootless steps have no additional groups" in rootless.warnings
    one = replace(facts, uid=1000, gid=1000)
    with pytest.raises(HostError, match="CDI's group 7 does not exist in the step's user namespace"):
        plan(ask(devices=("vendor.com/gpu=0",), isolation="chroot"), one)


@row("X35")
def test_in_a_user_namespace_the_hosts_nodes_are_shown(ask, facts):
    made = plan(ask(devices=("vendor.com/gpu=0",), isolation="rootless"), facts)
    assert "devices" not in made.spec["linux"] and "resources" not in made.spec["linux"]
    bound = {item["destination"]: item for item in made.spec["mounts"] if item["source"].startswith("/dev/v")}
    assert bound["/dev/vendorctl"]["source"] == "/dev/vendor-control"
    assert bound["/dev/vendorctl"]["options"] == ["bind", "private", "ro", "nosuid", "noexec"]
    assert (
        "the device /dev/vendorctl has the host's mode and owner: it is the host's own node" in made.warnings
    )
    assert not any("/dev/vendor0" in text for text in made.warnings)
    with pytest.raises(
        HostError, match="the device /dev/a has only a number on this host, and in a user namespace"
    ):
        node = edited(deviceNodes=[{"path": "/dev/a", "type": "c", "major": 7}])
        plan(ask(devices=("vendor.com/gpu=0",), isolation="rootless"), replace(facts, cdi_specs=files(node)))


@row("X35")
def test_a_mount_that_rootless_replaces_is_told(ask, facts):
    spec = edited(mounts=[{"hostPath": "/run/vendor", "containerPath": "/dev/vendor"}])
    made = plan(
        ask(devices=("vendor.com/gpu=0",), isolation="rootless"), replace(facts, cdi_specs=files(spec))
    )
    assert "the CDI mount on /dev/vendor is left out: isolation rootless has its own there" in made.warnings


@row("X35")
def test_files_are_found(ask, host, tmp_path):
    low, high, missing = (str(tmp_path / name) for name in ("low", "high", "missing"))
    node, library = tmp_path / "node", tmp_path / "library"
    library.mkdir()
    for directory in (low, high):
        os.mkdir(directory)
    edits = {
        "deviceNodes": [{"path": "/dev/full"}],
        "mounts": [{"hostPath": str(library), "containerPath": "/l"}],
    }
    (tmp_path / "low/z.json").write_text(json.dumps(one("low", **edits)))
    (tmp_path / "high/a.yaml").write_text(yaml.safe_dump(one("high", **edits)))
    (tmp_path / "high/b.json").write_bytes(b"\xff")
    (tmp_path / "high/c.json").symlink_to(node)
    (tmp_path / "high/d.yml").write_text("left aside, as by CDI's own library")
    (tmp_path / "high/e.json").mkdir()
    request = ask(devices=("vendor.com/net=a",), cdi_spec_dirs=(missing, low, high, low))
    found = look_up(request, host)
    assert [file.path for file in found.cdi_specs] == [
        f"{low}/z.json",
        *(f"{high}/{n}" for n in ("a.yaml", "b.json", "c.json")),
    ]
    assert [file.error for file in found.cdi_specs] == [
        "",
        "",
        "it is not UTF-8 text",
        "it can't be read: No such file or directory",
    ]
    assert [(item.path, item.type) for item in found.devices] == [("/dev/full", "c")]
    made = plan(request, found)
    assert "FROM=high" in made.spec["process"]["env"] and "/dev/full" in devices(made)
    assert look_up(request, found) == found
    with pytest.raises(HostError, match=r"'vendor.com/net=b' is not known"):
        unknown = ask(devices=("vendor.com/net=b",), cdi_spec_dirs=(high,))
        plan(unknown, look_up(unknown, host))


@row("X35")
def test_without_a_cdi_name_nothing_of_it_is_loaded(tmp_path):
    (tmp_path / "etc").mkdir()
    code = f"""
import sys
from run_step import HostFacts, RunRequest, look_up, plan
request = RunRequest(("x",), {str(tmp_path)!r}, isolation="chroot", devices=("/dev/full:/dev/other",))
assert plan(request, look_up(request, HostFacts(capabilities=("MKNOD",)))).spec["linux"]["devices"]
sys.exit(bool({{"jsonschema", "yaml"}} & sys.modules.keys()))
"""
    path = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["run_step"].__file__)))
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0
