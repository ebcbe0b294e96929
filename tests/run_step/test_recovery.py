"""Notes that somebody planted where a build looks for what a killed one left: they are data, and nothing is run, killed
or removed by them that is not ours."""

import json
import os
import shutil
import subprocess
import sys

import as_user
import pytest
from watching import clear, groups

from run_step import recover
from run_step.isolation import group_notes
from run_step.isolation.cgroup import Group, layout_of
from run_step.network import leases, settings

pytestmark = pytest.mark.root

SUFFIX = "abcd1234"


@pytest.fixture
def work(open_path):
    """A directory of a builder, in a place that everybody can reach."""
    (open_path / "work").mkdir(mode=0o755)
    return open_path / "work"


@pytest.fixture
def bundle(work):
    made = work / f"bundle-{SUFFIX}"
    made.mkdir(mode=0o711)
    return made


@pytest.fixture
def canary(open_path):
    """A program that tells when it is run."""

    def make(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$0 $*" >> {open_path}/run\n')
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def was_run(open_path):
    return lambda: (open_path / "run").read_text() if (open_path / "run").exists() else ""


def container(bundle):
    (bundle / "runtime" / "buildfront-x").mkdir(parents=True)


@pytest.mark.parametrize("name", ["evil", "runc", "sub/crun"])
def test_a_runtime_that_this_machine_does_not_know_is_not_run(work, bundle, open_path, canary, was_run, name):
    container(bundle)
    (bundle / "runtime.path").write_text(str(canary(open_path / name)))
    (warning,) = recover(str(work))
    assert f"{str(open_path / name)!r}, which is not an OCI runtime that this machine knows" in warning
    assert was_run() == ""


def test_a_runtime_of_the_builders_path_is_run(work, bundle, open_path, canary, was_run, monkeypatch):
    container(bundle)
    (bundle / "runtime.path").write_text(str(canary(open_path / "bin/runc")))
    monkeypatch.setenv("PATH", f"{open_path}/bin:{os.environ['PATH']}")
    assert recover(str(work)) == ()
    assert was_run() == f"{open_path}/bin/runc --root {bundle}/runtime delete --force buildfront-x\n"


def test_a_runtime_that_the_builders_options_name_is_run(work, bundle, open_path, canary, was_run):
    container(bundle)
    path = str(canary(open_path / "own"))
    (bundle / "runtime.path").write_text(path)
    assert recover(str(work), runtimes=[path]) == ()
    assert was_run() != ""


@pytest.mark.parametrize(
    "how", ["owner", "group", "others", "directory", "above", "link", "not executable", "relative"]
)
def test_a_runtime_that_others_may_write_is_not_run(
    work, bundle, open_path, canary, was_run, monkeypatch, how
):
    container(bundle)
    path = canary(open_path / "top/bin/crun")
    named = str(path)
    if how == "owner":
        os.chown(path, 4321, 4321)
    elif how == "group":
        path.chmod(0o775)
    elif how == "others":
        path.chmod(0o757)
    elif how == "directory":
        path.parent.chmod(0o777)
    elif how == "above":
        os.chown(path.parent.parent, 4321, 4321)
    elif how == "link":
        target = canary(open_path / "elsewhere/crun")
        os.chown(target.parent, 4321, 4321)
        path.unlink()
        path.symlink_to(target)
    elif how == "not executable":
        path.chmod(0o644)
    else:
        monkeypatch.chdir(path.parent)
        named = "./crun"
    (bundle / "runtime.path").write_text(named)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}:.")
    assert len(recover(str(work))) == 1
    assert was_run() == ""


def known(canary, open_path, monkeypatch):
    path = canary(open_path / "bin/crun")
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


@pytest.mark.parametrize(
    "how", ["owner", "writable", "two", "link", "pipe", "directory", "large", "null", "odd", "hard"]
)
def test_a_note_that_is_none_of_ours_is_not_read(work, bundle, open_path, canary, was_run, monkeypatch, how):
    """Read as it stands each would name a runtime that is known."""
    container(bundle)
    path = str(known(canary, open_path, monkeypatch))
    note = bundle / "runtime.path"
    if how == "link":
        (open_path / "note").write_text(path)
        note.symlink_to(open_path / "note")
    elif how == "hard":
        (open_path / "note").write_text(path)
        os.link(open_path / "note", note)
    elif how == "pipe":
        os.mkfifo(note)
    elif how == "directory":
        note.mkdir()
    else:
        text = {
            "two": f"{path}\n{path}",
            "null": f"{path}\0",
            "large": path + "\n" * (5 << 20),
            "odd": "\udcff",
        }
        note.write_text(text.get(how, path), errors="surrogateescape")
    if how == "owner":
        os.chown(note, 4321, 4321)
    elif how == "writable":
        note.chmod(0o666)
    assert len(recover(str(work))) <= 1
    assert was_run() == ""


@pytest.mark.parametrize(
    "how", ["owner", "writable", "link", "file", "above", "state", "state writable", "container"]
)
def test_a_bundle_that_is_none_of_ours_is_left_alone(
    work, bundle, open_path, canary, was_run, monkeypatch, how
):
    container(bundle)
    (bundle / "runtime.path").write_text(str(known(canary, open_path, monkeypatch)))
    if how == "owner":
        os.chown(bundle, 4321, 4321)
    elif how == "writable":
        bundle.chmod(0o777)
    elif how == "link":
        bundle.rename(open_path / "aside")
        bundle.symlink_to(open_path / "aside")
    elif how == "file":
        shutil.rmtree(bundle)
        bundle.write_text("none")
    elif how == "above":
        work.chmod(0o777)
    elif how == "state":
        (bundle / "runtime").rename(open_path / "aside")
        (bundle / "runtime").symlink_to(open_path / "aside")
    elif how == "state writable":
        (bundle / "runtime").chmod(0o777)
    else:
        os.chown(bundle / "runtime/buildfront-x", 4321, 4321)
    told = recover(str(work))
    assert was_run() == ""
    if "state" not in how and how != "container":
        (warning,) = told
        assert warning == f"{bundle} is left as it is: others may write it, or it is not a directory of ours"


@pytest.mark.parametrize("path", ["/no/such/place", "", "/etc/passwd", "a\0b"])
def test_where_nothing_can_be_there_is_nothing_to_do(path):
    assert recover(path) == ()


# Control groups


def own_directories():
    return sorted({path for _, path in layout_of().values()})


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def group(sleeper):
    """A group of somebody else's, called as one of ours, with a process in it."""
    made = []

    def make(name):
        for base in own_directories():
            path = os.path.join(base, name)
            try:
                os.mkdir(path)
            except OSError:
                continue
            made.append(path)
            try:
                with open(os.path.join(path, "cgroup.procs"), "w") as stream:
                    stream.write(str(sleeper.pid))
            except OSError:
                os.rmdir(path)
                made.pop()
                continue
            return path
        raise AssertionError("no group can be made here")

    yield make
    sleeper.kill()
    sleeper.wait()
    for path in made:
        if os.path.isdir(path):
            os.rmdir(path)


def test_a_group_without_our_mark_is_neither_killed_nor_removed(work, bundle, group, sleeper):
    path = group(f"buildfront-0123456789ab-{SUFFIX}")
    (bundle / "cgroups").write_text(f"{path}\n{os.path.dirname(path)}\n")
    recover(str(work))
    assert sleeper.poll() is None and os.path.isdir(path)


@pytest.mark.parametrize("value", [b"1", b"", b"buildfront-0123456789ab-other"])
def test_a_group_with_another_mark_is_neither_killed_nor_removed(work, bundle, group, sleeper, value):
    """A parent's, another bundle's."""
    path = group(f"buildfront-0123456789ab-{SUFFIX}")
    os.setxattr(path, "trusted.buildfront", value)
    (bundle / "cgroups").write_text(path)
    recover(str(work))
    assert sleeper.poll() is None and os.path.isdir(path)


def test_the_group_of_another_builds_step_is_left_alone(work, bundle, group, sleeper):
    path = group("buildfront-0123456789ab-another")
    group_notes.mark(path)
    (bundle / "cgroups").write_text(path)
    recover(str(work))
    assert sleeper.poll() is None and os.path.isdir(path)


def test_the_group_of_the_bundles_own_step_is_killed_and_removed(work, bundle, group, sleeper):
    path = group(f"buildfront-0123456789ab-{SUFFIX}")
    group_notes.mark(path)
    (bundle / "cgroups").write_text(path + "\n")
    assert recover(str(work)) == ()
    assert sleeper.wait() == -9
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "spelling", ["{top}/../{name}/{group}", "{path}/", "{top}//{group}", "{path}/.", "{aside}"]
)
def test_a_group_by_a_detour_is_left_alone(work, bundle, group, sleeper, open_path, spelling):
    path = group(f"buildfront-0123456789ab-{SUFFIX}")
    group_notes.mark(path)
    top = os.path.dirname(path)
    (open_path / os.path.basename(path)).symlink_to(path)
    words = {"top": top, "name": os.path.basename(top), "group": os.path.basename(path), "path": path}
    (bundle / "cgroups").write_text(spelling.format(**words, aside=open_path / os.path.basename(path)))
    recover(str(work))
    assert sleeper.poll() is None and os.path.isdir(path)


def test_a_directory_that_is_no_group_is_left_alone(work, bundle, open_path, sleeper):
    """With what looks like a group's list of processes; empty directories would be removed, too."""
    place = open_path / f"buildfront-0123456789ab-{SUFFIX}"
    (place / "inner").mkdir(parents=True)
    (place / "cgroup.procs").write_text(f"{sleeper.pid}\n")
    (bundle / "cgroups").write_text(f"{place}\n/\n/proc\n{open_path}\n../../tmp\n\0\n{'x' * 9999}\n")
    (bundle / "cgroup-parent").write_text(f"{'../' * 30}{open_path}/buildfront")
    recover(str(work))
    assert sleeper.poll() is None and (place / "inner").is_dir()


@pytest.mark.parametrize("text", ["/", "..", "a\0b", "a\nb", "/" + "x/" * 5000, "\udcff"])
def test_an_odd_parent_is_no_harm(work, bundle, text):
    (bundle / "cgroup-parent").write_text(text, errors="surrogateescape")
    assert recover(str(work)) == ()


def test_a_step_s_group_carries_our_mark():
    name = f"buildfront-0123456789ab-{os.urandom(4).hex()}"
    group = Group.create(name, {})
    try:
        for path in group.made:
            assert group_notes.is_marked(path, f"/x/bundle-{name.rpartition('-')[2]}")
            assert not group_notes.is_marked(path, f"/x/bundle-{SUFFIX}")
    finally:
        group.remove()
        clear(groups(name))


# Networks


def cni_note(directory, kind="tool"):
    config = {"name": "front", "cniVersion": "0.4.0", "plugins": [{"type": kind}]}
    calls = {"container_id": "x", "plugin_dirs": [str(directory)]}
    return {"config": config, "interface": "if0", "result": None, "calls": calls}


def test_a_plugin_that_this_machine_does_not_know_is_not_run(work, bundle, open_path, canary, was_run):
    canary(open_path / "plugins/tool")
    (bundle / "cni.json").write_text(json.dumps([cni_note(open_path / "plugins")]))
    (warning,) = recover(str(work))
    assert "not this machine's plugin directories" in warning and was_run() == ""
    assert recover(str(work), cni_plugin_dirs=[str(open_path / "plugins")]) == ()
    assert was_run() != ""


def test_a_plugin_is_no_path(work, bundle, open_path, canary, was_run):
    canary(open_path / "other/tool")
    (open_path / "plugins").mkdir()
    (bundle / "cni.json").write_text(json.dumps([cni_note(open_path / "plugins", "../other/tool")]))
    recover(str(work), cni_plugin_dirs=[str(open_path / "plugins")])
    assert was_run() == ""


WRONG = [
    "[" * 100_000,
    "{}",
    "null",
    "7",
    "[7]",
    '[{"calls": 7}]',
    '[{"calls": {"plugin_dirs": "x"}}]',
    '[{"calls": {"plugin_dirs": []}, "config": {"plugins": [{"type": 7}]}}]',
    '[{"calls": {"plugin_dirs": ["/usr/lib/cni"]}, "config": {"plugins": [{"type": "loopback"}]}}]',
    '[{"calls": {"plugin_dirs": ["/usr/lib/cni"], "container_id": "a\\u0000b"}, "interface": 7, "result": [],'
    ' "config": {"name": 7, "cniVersion": {}, "plugins": [{"type": "loopback"}]}}]',
    "\0",
    "NaN",
]


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_note_of_networks_that_is_none_is_no_harm(work, bundle, text):
    (bundle / "cni.json").write_text(text)
    recover(str(work))


@pytest.mark.parametrize("how", ["writable", "owner", "link", "file"])
def test_the_place_of_networks_must_be_ours(open_path, how):
    place = open_path / "network"
    place.mkdir(mode=0o700)
    if how == "writable":
        place.chmod(0o777)
    elif how == "owner":
        os.chown(place, 4321, 4321)
    else:
        place.rmdir()
        (open_path / "aside").mkdir(mode=0o700)
        place.symlink_to(open_path / "aside") if how == "link" else place.write_text("x")
    pool = leases.Pool(str(place))
    with (
        pytest.raises(PermissionError, match="others may write it, or it is not a directory of ours"),
        pool.locked(),
    ):
        pass


def test_the_place_of_networks_is_for_us_alone_whatever_the_umask(open_path):
    old = os.umask(0)
    try:
        with leases.Pool(str(open_path / "a/b/c")).locked():
            pass
    finally:
        os.umask(old)
    assert {os.stat(open_path / name).st_mode & 0o777 for name in ("a", "a/b", "a/b/c")} == {0o700}


@pytest.mark.parametrize("name", ["lease-7", "holder-7"])
@pytest.mark.parametrize("how", ["link", "pipe", "directory"])
def test_a_lease_that_is_no_file_ends_in_an_error_of_the_system(open_path, name, how):
    """It leads nowhere, and does not hang."""
    (open_path / "pool").mkdir(mode=0o700)
    path = open_path / "pool" / name
    {
        "link": lambda: path.symlink_to("/etc/passwd"),
        "pipe": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }[how]()
    pool = leases.Pool(str(open_path / "pool"))
    try:
        with pool.locked():
            pool.numbers()
            pool.is_held()
    except OSError:
        pass


def test_names_that_are_no_numbers_are_no_leases(open_path):
    (open_path / "pool").mkdir(mode=0o700)
    for name in ("lease-", "lease-x", "lease-٣", "lease-" + "9" * 200, "lease--1", "lease-7"):
        (open_path / "pool" / name).touch()
    pool = leases.Pool(str(open_path / "pool"))
    with pool.locked():
        assert pool.numbers() == {7: False}


ODD_SETTINGS = [
    {"{canary}": ["evil", "before"]},
    {"/proc/sys/net/ipv6/conf/../../../../..{canary}/accept_ra": ["evil", "before"]},
    {"/proc/sys/kernel/core_pattern": ["|/evil", "core"]},
    {"/proc/sys/net/ipv4/ip_forward": ["7", "1"]},
    {"/proc/sys/net/ipv4/ip_forward": "01"},
    {"/proc/sys/net/ipv4/ip_forward": [0, 1]},
    ["/proc/sys/net/ipv4/ip_forward"],
    7,
]


@pytest.mark.parametrize("note", [json.dumps(item) for item in ODD_SETTINGS] + ["[" * 100_000, "", "\0"])
def test_what_a_note_of_settings_names_is_a_setting_of_a_network(open_path, note):
    place = open_path / "network"
    place.mkdir(mode=0o700)
    (open_path / "canary").write_text("before")
    before = {
        path: settings.read(path)
        for path in ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/core_pattern")
    }
    (place / "settings.json").write_text(note.replace("{canary}", str(open_path / "canary")))
    (place / "devices.json").write_text("[" * 9 if "ip_forward" in note else '["lo", 7, null]')
    settings.restore(str(place), {"lo"})
    assert (open_path / "canary").read_text() == "before"
    assert {path: settings.read(path) for path in before} == before


# As a second user


PLANT = """
import json, os, sys
work, program, group = sys.argv[1:]
bundle = os.path.join(work, "bundle-abcd1234")
os.makedirs(os.path.join(bundle, "runtime", "buildfront-x"))
for name, text in (("runtime.path", program), ("cgroups", group)):
    with open(os.path.join(bundle, name), "w") as stream:
        stream.write(text)
note = {"config": {"name": "n", "cniVersion": "0.4.0", "plugins": [{"type": os.path.basename(program)}]},
        "interface": "if0", "result": None, "calls": {"container_id": "x", "plugin_dirs": [os.path.dirname(program)]}}
with open(os.path.join(bundle, "cni.json"), "w") as stream:
    json.dump([note], stream)
"""


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_what_another_user_planted_is_not_believed(
    work, open_path, group, sleeper, canary, was_run, monkeypatch, mode
):
    """In a directory that everybody may write to. The names are right, the group even has our mark."""
    path = group(f"buildfront-0123456789ab-{SUFFIX}")
    group_notes.mark(path)
    program = known(canary, open_path, monkeypatch)
    work.chmod(mode)
    home = as_user.make_home(str(open_path / "home"))
    done = as_user.run(home, sys.executable, "-c", PLANT, work, program, path)
    assert done.returncode == 0, done.stderr
    (warning,) = recover(str(work), cni_plugin_dirs=[str(program.parent)])
    assert warning.startswith(f"{work}/bundle-{SUFFIX} is left as it is")
    assert was_run() == "" and sleeper.poll() is None and os.path.isdir(path)


def test_notes_are_read_by_a_user_who_wrote_them(open_path):
    """In the user namespace of a rootless build, where the machine's root is nobody."""
    home = as_user.make_home(str(open_path / "home"))
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from run_step import enter_user_namespace, notes\n"
        "enter_user_namespace()\n"
        "os.makedirs('work/bundle-x', mode=0o711); open('work/bundle-x/note', 'w').write('a')\n"
        "print(notes.is_own_directory('work/bundle-x'), notes.read('work/bundle-x', 'note'))\n"
        "print(notes.known_program('/usr/sbin/runc', ['runc']), notes.is_own_directory('/etc'))\n"
    )
    done = as_user.run(home, sys.executable, "-c", code, os.path.join(as_user.PROJECT, "plugins"))
    assert done.stdout == "True b'a'\nTrue False\n", done.stderr
