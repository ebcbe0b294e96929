"""Trees are copied whole and removed whole, whoever filled them."""

import errno
import os
import socket
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from run_step import copy_content, copy_tree, remove_tree
from run_step.trees import copy_entry

HOLE = 1 << 20


def copied(source, target):
    """Copies a directory into another, which is made for that."""
    os.mkdir(target)
    flags = os.O_RDONLY | os.O_DIRECTORY
    one, other = os.open(source, flags), os.open(target, flags)
    try:
        copy_tree(one, other)
    finally:
        os.close(one)
        os.close(other)
    return target


def described(top):
    """All that belongs to the files of a tree, those of several names by their first."""
    found, names = {}, {}
    for directory, inner, files in os.walk(top):
        inner.sort()
        for name in ["", *sorted(inner), *sorted(files)]:
            path = os.path.join(directory, name).rstrip("/")
            status = os.lstat(path)
            shown = os.path.relpath(path, top)
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                shown_first = names.setdefault((status.st_dev, status.st_ino), shown)
            else:
                shown_first = shown
            content = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    content = stream.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            found[shown] = (
                (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_mtime_ns),
                shown_first,
                content,
                attributes,
            )
    return found


def test_all_that_belongs_to_a_file_is_in_the_copy(tmp_path):
    top = tmp_path / "top"
    (top / "one/two").mkdir(parents=True)
    (top / "one/two/file").write_bytes(b"content")
    os.link(top / "one/two/file", top / "one/name")
    os.link(top / "one/two/file", top / "zz")
    (top / "one/link").symlink_to("/etc/passwd")
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "fifo", 0o640)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(top / "socket"))
    listening.close()
    (top / "empty").mkdir(0o1777)
    (top / "program").write_bytes(b"#!")
    (top / "program").chmod(0o4755)
    os.setxattr(top / "program", "user.kept", b"1")
    os.setxattr(top / "one", "user.of.directory", b"2")
    if os.geteuid() == 0:
        os.mknod(top / "device", stat.S_IFCHR | 0o620, os.makedev(1, 3))
        os.chown(top / "program", 1, 2)
        (top / "program").chmod(0o4755)
        os.setxattr(top / "program", "security.capability", b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        os.chown(top / "one/link", 5, 6, follow_symlinks=False)
        os.chown(top, 7, 8)
    for path in (top / "one/two/file", top / "one/two", top / "one", top / "empty", top):
        os.utime(path, ns=(1_000_000_001, 1_234_567_891_000_000_002))
    os.utime(top / "one/link", ns=(1, 2), follow_symlinks=False)
    before = described(top)
    copy = copied(top, tmp_path / "copy")
    assert described(copy) == before == described(top)
    assert os.lstat(copy / "zz").st_nlink == 3


names = st.sampled_from(["a", "b", "c", "ä", "\udc80", "x" * 255])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.lists(names, min_size=1, max_size=5), st.binary(max_size=9), st.integers(0, 3)),
        max_size=12,
    )
)
def test_any_tree_is_the_same_in_the_copy(tmp_path, entries):
    top = tmp_path / os.urandom(8).hex()
    top.mkdir()
    files = []
    for words, content, kind in entries:
        path = os.path.join(top, *words)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if kind == 0 and files:
                os.link(files[0], path)
            elif kind == 1:
                os.symlink(os.fsdecode(content.replace(b"\0", b"") or b"x"), path)
            elif kind == 2:
                os.mkdir(path)
            else:
                with open(path, "xb") as stream:
                    stream.write(content)
                files.append(path)
        except OSError:
            continue  # there already, or below something that is no directory
    assert described(copied(top, f"{top}-copy")) == described(top)


def deep(top, levels, name="d" * 200):
    """A chain of directories too long for any path, with a file of two names at its end; the descriptor of its end."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    made = os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    os.write(made, b"deep")
    os.close(made)
    os.link("file", "name", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)


def test_a_tree_deeper_than_the_stack_and_all_descriptors_is_copied_and_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    deep(top, 3000)
    copied(top, tmp_path / "copy")
    fd = os.open(tmp_path / "copy", os.O_RDONLY | os.O_DIRECTORY)
    levels = 0
    while os.listdir(fd) == ["d" * 200]:
        inner = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
        levels += 1
    assert (levels, sorted(os.listdir(fd))) == (3000, ["file", "name"])
    file = os.open("file", os.O_RDONLY, dir_fd=fd)
    assert os.read(file, 10) == b"deep"
    os.close(file)
    os.close(fd)
    remove_tree(str(top))
    remove_tree(str(tmp_path / "copy"))
    assert os.listdir(tmp_path) == []


def sparse(path, *, end=False):
    """Two blocks of data around a hole; with ``end`` one more hole at the end."""
    with open(path, "wb") as stream:
        stream.write(b"begin")
        stream.seek(64 * HOLE)
        stream.write(b"middle")
        if end:
            stream.truncate(128 * HOLE)


@pytest.mark.parametrize("end", [False, True])
def test_a_hole_stays_a_hole(tmp_path, end):
    top = tmp_path / "top"
    top.mkdir()
    sparse(top / "file", end=end)
    (top / "all").touch()
    os.truncate(top / "all", 1 << 40)
    copy = copied(top, tmp_path / "copy")
    for name in ("file", "all"):
        assert os.stat(copy / name).st_size == os.stat(top / name).st_size
        assert os.stat(copy / name).st_blocks * 512 < HOLE
    with open(copy / "file", "rb") as stream:
        assert stream.read(5) == b"begin"
        stream.seek(64 * HOLE)
        assert stream.read(6) == b"middle"


def test_content_goes_from_one_filesystem_to_another(tmp_path):
    """And from one whose files have no size of their own to speak of."""
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.fail("/dev/shm is no filesystem of its own")
    name = f"/dev/shm/buildfront-{os.getpid()}"
    with open(name, "w+b") as reader, open(tmp_path / "copy", "w+b") as writer:
        os.unlink(name)
        sparse(f"/proc/self/fd/{reader.fileno()}")
        copy_content(reader.fileno(), writer.fileno())
        assert os.fstat(writer.fileno()).st_size == os.fstat(reader.fileno()).st_size
        assert os.pread(writer.fileno(), 6, 64 * HOLE) == b"middle"


def test_one_entry_is_copied_by_another_name(tmp_path):
    (tmp_path / "from/tree").mkdir(parents=True)
    (tmp_path / "from/tree/file").write_text("x")
    (tmp_path / "from/tree").chmod(0o750)
    (tmp_path / "to").mkdir()
    flags = os.O_RDONLY | os.O_DIRECTORY
    source, target = os.open(tmp_path / "from", flags), os.open(tmp_path / "to", flags)
    try:
        copy_entry(source, "tree", target, "new")
        with pytest.raises(FileExistsError):
            copy_entry(source, "tree", target, "new")
    finally:
        os.close(source)
        os.close(target)
    assert described(tmp_path / "to/new") == described(tmp_path / "from/tree")


def test_a_directory_that_is_moved_meanwhile_is_an_error(tmp_path, monkeypatch):
    """Its ".." is another one then: what is there is nobody's to copy."""
    (tmp_path / "top/one/two").mkdir(parents=True)
    (tmp_path / "aside").mkdir()
    real = os.listdir

    def listdir(fd):
        found = real(fd)
        if found == []:
            os.rename(tmp_path / "top/one/two", tmp_path / "aside/two")
        return found

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(OSError, match="moved while it was copied") as caught:
        copied(tmp_path / "top", tmp_path / "copy")
    assert caught.value.errno == errno.EBUSY
