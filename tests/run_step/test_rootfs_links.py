"""Paths inside a root filesystem that strangers filled with links."""

import errno
import os
import shutil
import tempfile

import pytest
from busybox_root import listing
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import row

from run_step.linux import openat2
from run_step.linux.openat2 import open_in_root, walk_in_root
from run_step.rootfs import Root


def by_kernel(root, path, flags):
    return open_in_root(root, path, flags)


@pytest.fixture(params=[by_kernel, walk_in_root])
def opener(request):
    if request.param is by_kernel and openat2._missing:
        pytest.skip("this kernel has no openat2")
    return request.param


@pytest.fixture
def tree(tmp_path):
    """A root with a file beside it that nothing inside may reach."""
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "secret").write_text("inside")
    (tmp_path / "root" / "etc" / "file").write_text("file")
    return str(tmp_path / "root")


def read(opener, tree, path):
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    try:
        fd = opener(root, path, os.O_RDONLY)
    finally:
        os.close(root)
    with os.fdopen(fd) as stream:
        return stream.read()


@pytest.mark.parametrize(
    "target",
    [
        "/secret",
        "../secret",
        "../../../../../../secret",
        "etc/../../secret",
        "/../secret",
        "./secret",
        "//secret",
    ],
)
def test_no_link_leads_outside(opener, tree, target):
    os.symlink(target, tree + "/link")
    os.symlink("/", tree + "/etc/top")
    assert read(opener, tree, "/link") == "inside"
    assert read(opener, tree, "link") == "inside"
    assert read(opener, tree, "/etc/top/link") == "inside"
    assert read(opener, tree, "/etc/../../../link") == "inside"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/loop", errno.ELOOP),
        ("/ping", errno.ELOOP),
        ("/ping/x", errno.ELOOP),
        ("/dangling", errno.ENOENT),
        ("/dangling/x", errno.ENOENT),
        ("/nothing", errno.ENOENT),
        ("/nothing/../secret", errno.ENOENT),
        ("/etc/file/x", errno.ENOTDIR),
        ("/etc/file/..", errno.ENOTDIR),
        ("/etc/file/", errno.ENOTDIR),
        ("/etc/file/.", errno.ENOTDIR),
        ("/slash", errno.ENOTDIR),
        ("/" + "x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_what_cannot_be_opened_says_why(opener, tree, path, code):
    os.symlink("loop", tree + "/loop")
    os.symlink("/pong", tree + "/ping")
    os.symlink("ping", tree + "/pong")
    os.symlink("/no/such", tree + "/dangling")
    os.symlink("etc/file/", tree + "/slash")
    with pytest.raises(OSError) as caught:
        read(opener, tree, path)
    assert caught.value.errno == code


def test_as_many_links_as_the_kernel_follows(opener, tree):
    for number in range(41):
        os.symlink(f"l{number + 1}" if number < 40 else "secret", f"{tree}/l{number}")
    assert read(opener, tree, "/l1") == "inside"
    with pytest.raises(OSError) as caught:
        read(opener, tree, "/l0")
    assert caught.value.errno == errno.ELOOP


def test_a_magic_link_leads_nowhere():
    """/proc/self/root is the machine's root whatever the link's text says."""
    if openat2._missing:
        pytest.skip("this kernel has no openat2")
    with Root("/proc/self") as root:
        for name in ("root", "cwd", "exe", "fd/0"):
            with pytest.raises(OSError) as caught:
                root.open(name, os.O_PATH)
            assert caught.value.errno == errno.ELOOP
        assert root.stat("root") is None


def test_the_walk_takes_a_magic_link_for_its_text(tree):
    """Without openat2 such a link is no way out either: its text is resolved inside the root."""
    root = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError):
            walk_in_root(root, "cwd/etc", os.O_PATH)
    finally:
        os.close(root)


def test_a_refused_openat2_falls_back_to_the_walk(tree, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(openat2, "syscall", refuse)
    monkeypatch.setattr(openat2, "_missing", False)
    os.symlink("/secret", tree + "/link")
    assert read(open_in_root, tree, "/link") == "inside"
    assert openat2._missing is True


NAMES = ["a", "b", "c"]
PART = st.sampled_from([*NAMES, "..", ".", ""])
PATH = st.lists(PART, min_size=1, max_size=5).map("/".join)
ENTRY = st.tuples(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join),
    st.sampled_from(["file", "directory"])
    | st.builds(lambda slash, path: ("link", slash + path), st.sampled_from(["", "/"]), PATH),
)
FLAGS = st.sampled_from([os.O_PATH, os.O_RDONLY, os.O_PATH | os.O_DIRECTORY, os.O_PATH | os.O_NOFOLLOW])


def grow(top, entries):
    for path, kind in entries:
        full = os.path.join(top, path)
        try:
            if kind == "directory":
                os.makedirs(full)
            elif kind == "file":
                with open(full, "x", encoding="ascii"):
                    pass
            elif kind[1]:
                os.symlink(kind[1], full)
        except OSError:
            pass  # does not fit into what is there already


def outcome(opener, root, path, flags):
    try:
        fd = opener(root, path, flags)
    except OSError as error:
        return error.errno
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(entries=st.lists(ENTRY, max_size=8), paths=st.lists(PATH, min_size=1, max_size=6), flags=FLAGS)
def test_kernel_and_walk_agree(entries, paths, flags):
    top = tempfile.mkdtemp()
    try:
        inside = os.path.join(top, "d/root")
        os.makedirs(inside)
        grow(inside, entries)
        root = os.open(inside, os.O_PATH | os.O_DIRECTORY)
        try:
            for path in paths:
                assert outcome(by_kernel, root, path or ".", flags) == outcome(
                    walk_in_root, root, path or ".", flags
                )
        finally:
            os.close(root)
    finally:
        shutil.rmtree(top)


@row("S54")
@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(entries=st.lists(ENTRY, max_size=8), path=PATH, directory=st.booleans())
def test_a_mount_point_comes_and_goes_without_a_trace(entries, path, directory):
    top = tempfile.mkdtemp()
    try:
        inside = os.path.join(top, "d/root")
        os.makedirs(inside)
        grow(inside, entries)
        before = listing(top)
        with Root(inside) as root:
            try:
                created = root.make_mount_point(path, directory)
            except OSError:
                created = []
            else:
                assert root.stat(os.path.normpath("/" + path)) is not None
            root.remove_mount_point(created)
        assert listing(top) == before
    finally:
        shutil.rmtree(top)


@row("S13")
@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(entries=st.lists(ENTRY, max_size=8), path=PATH)
def test_directories_are_made_inside_or_not_at_all(entries, path):
    top = tempfile.mkdtemp()
    try:
        inside = os.path.join(top, "d/root")
        os.makedirs(inside)
        grow(inside, entries)
        outside = {name: row for name, row in listing(top).items() if not name.startswith("d/root")}
        with Root(inside) as root:
            try:
                made = root.make_dirs(path)
            except OSError:
                made = []
            else:
                assert os.path.isdir(f"/proc/self/fd/{root.fd}") and root.stat(os.path.normpath("/" + path))
            for item in made:
                assert os.path.isdir(inside + item)
        assert {name: row for name, row in listing(top).items() if not name.startswith("d/root")} == outside
    finally:
        shutil.rmtree(top)


@row("S13")
@pytest.mark.parametrize("target", ["x/../self", "/x/y/../../self", "../self/"])
def test_a_link_that_comes_back_to_itself_ends(tree, target):
    """Made literally, ``x/..`` is where the link lies: following it for ever is what a hostile image wants."""
    os.symlink(target, tree + "/self")
    with Root(tree) as root:
        with pytest.raises(OSError) as caught:
            root.make_dirs("/self/deep")
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(OSError):
            root.make_mount_point("/self/deep", True)


@row("S54")
def test_a_link_that_wants_a_directory_gets_no_file(tree):
    for name, target in (("slash", "new/"), ("dot", "other/.")):
        os.symlink(target, f"{tree}/{name}")
        before = listing(tree)
        with Root(tree) as root:
            created = root.make_mount_point(f"/{name}", False)
            assert [place.directory for place in created] == [True]
            assert root.stat(f"/{name}") is not None
            root.remove_mount_point(created)
        assert listing(tree) == before


@row("S13")
def test_a_dangling_link_is_followed_from_where_it_lies(tree):
    os.makedirs(tree + "/a/b")
    os.symlink("/a/b", tree + "/short")
    os.symlink("../new", tree + "/a/b/link")
    with Root(tree) as root:
        root.make_dirs("/short/link/deep")
    assert os.path.isdir(tree + "/a/new/deep")
    assert not os.path.exists(tree + "/new")


@row("S13")
def test_modes_do_not_depend_on_the_umask(tree):
    old = os.umask(0o077)
    try:
        with Root(tree) as root:
            assert root.make_dirs("/p/q", 0o755) == ["/p", "/p/q"]
            assert root.make_dirs("/p/q", 0o700) == []
    finally:
        os.umask(old)
    assert os.stat(tree + "/p/q").st_mode & 0o7777 == 0o755


@row("S54")
def test_what_the_step_put_there_stays(tree):
    with Root(tree) as root:
        created = root.make_mount_point("/run/sub", True)
        with open(tree + "/run/mine", "w", encoding="ascii"):
            pass
        root.remove_mount_point(created)
    assert os.listdir(tree + "/run") == ["mine"]


@row("S54")
def test_a_file_that_got_content_stays(tree):
    with Root(tree) as root:
        created = root.make_mount_point("/etc/hosts", False)
        with open(tree + "/etc/hosts", "w", encoding="ascii") as stream:
            stream.write("mine")
        root.remove_mount_point(created)
    assert os.path.exists(tree + "/etc/hosts")


@row("S54")
def test_what_the_step_replaced_is_left(tree, tmp_path):
    """Undoing must not follow a link that the step put in the place of a directory of ours."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sub").mkdir()
    with Root(tree) as root:
        created = root.make_mount_point("/run/sub", True)
        shutil.rmtree(tree + "/run")
        os.symlink(str(outside), tree + "/run")
        root.remove_mount_point(created)
    assert (outside / "sub").is_dir()
    assert os.path.islink(tree + "/run")


def test_reading_is_of_the_whole_file_and_keeps_odd_bytes(tree):
    with open(tree + "/odd", "wb") as stream:
        stream.write(b"\xff\x0b\r\n\n" + b"\xff" * 10)
    with Root(tree) as root:
        assert list(root.lines("/odd", 15)) == ["\udcff\x0b", "", "\udcff" * 10]
        with pytest.raises(OSError, match="larger than"):
            next(root.lines("/odd", 14))
        assert list(root.lines("/etc")) == []
        assert list(root.lines("/nothing")) == []


def test_a_fifo_does_not_hang(tree):
    os.mkfifo(tree + "/fifo")
    with Root(tree) as root:
        assert list(root.lines("/fifo")) == []
