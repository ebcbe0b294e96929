"""What a change looks like, told from a whole copy and from an overlay's upper directory."""

import errno
import os
import shutil
import subprocess
import threading

import pytest

from buildfront.image.diff import Comparison
from buildfront.store.snapshots import driver
from buildfront.store.snapshots.overlay_mount import enter_private_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays")

BASE = """
mkdir -p d/sub/deep e etc && echo 1 >d/one && echo 2 >d/sub/two && echo 3 >d/sub/deep/three
echo x >etc/passwd && ln -s passwd etc/link && mkfifo etc/fifo && ln etc/passwd etc/hard
chmod 4755 d/one && chown 5:6 e && touch -d @1000000000 d/one d/sub/two etc/passwd d/sub d e
"""


def isolated(function, *args):
    """Run in a thread of its own with private mounts."""
    out = []

    def work():
        try:
            enter_private_namespace()
            out.append((True, function(*args)))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            out.append((False, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    good, value = out[0]
    if not good:
        raise value
    return value


def shell(script, cwd):
    subprocess.run(["sh", "-ec", script], cwd=cwd, check=True)


def changes(name, place, script):
    """Entries (path, removed) of ``script`` on top of BASE, with one driver."""
    kind = driver(name)
    lineage = []
    for number, text in enumerate((BASE, script)):
        work = os.path.join(place, f"{name}-{number}")
        os.mkdir(work)
        active = kind.prepare(work, lineage)
        shell(text, active.path)
        lineage.insert(0, active.finish())
    tree, comparison = kind.comparison(lineage[0])
    view_work = os.path.join(place, name + "-view")
    os.mkdir(view_work)
    with kind.view(view_work, lineage[1:]) as view:
        new, old = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (tree, view.path))
        try:
            return [(entry.path, entry.status is None) for entry in comparison.walk(new, old)]
        finally:
            os.close(new)
            os.close(old)


CASES = {
    "nothing": ("true", []),
    "touched up and left": ("chmod 755 d/one && chmod 4755 d/one && touch -d @1000000000 d/one", []),
    "new file": ("echo n >d/new; touch -d @1000000000 d", [("d", 0), ("d/new", 0)]),
    "content": ("echo 9 >d/sub/two", [("d", 0), ("d/sub", 0), ("d/sub/two", 0)]),
    "content, same size and time": (
        "echo 9 >d/sub/two; touch -d @1000000000 d/sub/two",
        [("d", 0), ("d/sub", 0), ("d/sub/two", 0)],
    ),
    "mode": ("chmod 600 d/sub/two", [("d", 0), ("d/sub", 0), ("d/sub/two", 0)]),
    "owner of a directory": ("chown 7 e", [("e", 0)]),
    "time alone": ("touch -d @1 d/sub/two", [("d", 0), ("d/sub", 0), ("d/sub/two", 0)]),
    "time of a directory": ("touch -d @1 e", [("e", 0)]),
    "attribute": ("setfattr -n user.a -v b d/sub/two", [("d", 0), ("d/sub", 0), ("d/sub/two", 0)]),
    "removed file": ("rm d/sub/two", [("d", 0), ("d/sub", 0), ("d/sub/two", 1)]),
    "removed directory": ("rm -r d", [("d", 1)]),
    "directory becomes file": ("rm -r d; echo f >d", [("d", 0)]),
    "file becomes directory": (
        "rm d/one; mkdir d/one; echo i >d/one/in",
        [("d", 0), ("d/one", 0), ("d/one/in", 0)],
    ),
    "link becomes directory": (
        "rm etc/link; mkdir etc/link; echo i >etc/link/in",
        [("etc", 0), ("etc/link", 0), ("etc/link/in", 0)],
    ),
    "directory becomes link": ("rm -r d; ln -s e d", [("d", 0)]),
    "link led elsewhere": ("ln -sfn group etc/link", [("etc", 0), ("etc/link", 0)]),
    "fifo removed": ("rm etc/fifo", [("etc", 0), ("etc/fifo", 1)]),
    "made anew": (
        "rm -r d; mkdir d; echo n >d/new",
        [("d", 0), ("d/new", 0), ("d/one", 1), ("d/sub", 1)],
    ),
    "made anew with a directory inside": (
        "rm -r d; mkdir -p d/sub/deep; echo n >d/sub/deep/new",
        [
            ("d", 0),
            ("d/sub", 0),
            ("d/sub/deep", 0),
            ("d/sub/deep/new", 0),
            ("d/sub/deep/three", 1),
            ("d/sub/two", 1),
            ("d/one", 1),
        ],
    ),
    "renamed": ("mv d/one d/uno", [("d", 0), ("d/uno", 0), ("d/one", 1)]),
    "new hard link": (
        "ln e/../d/sub/two e/again",
        [("d", 0), ("d/sub", 0), ("d/sub/two", 0), ("e", 0), ("e/again", 0)],
    ),
    "made and removed": ("echo t >e/t; rm e/t; touch -d @1000000000 e", []),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["overlay", "copy"])
def test_changes(name, case, tmp_path):
    script, expected = CASES[case]
    if "setfattr" in script:
        if not shutil.which("setfattr"):
            script = "python3 -c \"import os; os.setxattr('d/sub/two', 'user.a', b'b')\""
        try:
            (tmp_path / "probe").touch()
            os.setxattr(tmp_path / "probe", "user.a", b"b")
        except OSError as error:
            assert error.errno == errno.ENOTSUP
            pytest.skip("this file system keeps no attributes")
    found = isolated(changes, name, str(tmp_path), script)
    assert sorted(found) == sorted((path, bool(gone)) for path, gone in expected)


@pytest.mark.parametrize("case", [case for case in CASES if case != "attribute"])
def test_a_directory_is_told_before_what_is_in_it(case, tmp_path):
    found = [path for path, _ in isolated(changes, "overlay", str(tmp_path), CASES[case][0])]
    for number, path in enumerate(found):
        head = os.path.dirname(path)
        assert not head or head in found[:number]
    assert len(found) == len(set(found))


def test_from_nothing(tmp_path):
    shell("mkdir a && echo 1 >a/b", tmp_path)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for complete in (False, True):
            found = Comparison(complete=complete).walk(fd, None)
            assert [entry.path for entry in found] == ["a", "a/b"]
    finally:
        os.close(fd)


# the top itself


@pytest.fixture
def trees(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir(mode=0o755)
    flags = os.O_RDONLY | os.O_DIRECTORY
    fds = os.open(tmp_path / "new", flags), os.open(tmp_path / "old", flags)
    yield fds
    for fd in fds:
        os.close(fd)


CHANGES_OF_THE_TOP = {
    "mode": lambda fd: os.fchmod(fd, 0o1777),
    "owner": lambda fd: os.fchown(fd, 5, 0),
    "group": lambda fd: os.fchown(fd, 0, 5),
    "attribute": lambda fd: os.setxattr(fd, "user.of", b"step"),
}


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("change", CHANGES_OF_THE_TOP)
def test_a_change_of_the_top_alone_is_one(trees, complete, change):
    new, old = trees
    assert list(Comparison(complete=complete).walk(new, old)) == []
    os.utime(new, (5, 5))
    assert list(Comparison(complete=complete).walk(new, old)) == []
    CHANGES_OF_THE_TOP[change](new)
    assert [entry.path for entry in Comparison(complete=complete).walk(new, old)] == [""]
