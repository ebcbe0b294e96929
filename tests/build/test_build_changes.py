"""Contexts that change while they are built: between the digest and the copy, and in the middle of it.

What is remembered under a key is what the key says. So afterwards the changed files, and the old ones put back, each
give what a store that knows nothing gives.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from file_trees import seen

import buildfront.image.layer_apply as applying
import run_step
from buildfront import BuildError, BuildOptions, build
from buildfront.engine.content import ContentDigests
from buildfront.engine.ops.copier import Copier
from buildfront.options import Output
from buildfront.store.image_store import Store
from run_step import RunRequest

Change = Callable[[Path], object]


def put(path: Path, text: str | bytes) -> None:
    """Other content of the same size, in the same file, its times put back."""
    before = path.stat()
    data = text if isinstance(text, bytes) else text.encode()
    assert len(data) == before.st_size
    with open(path, "r+b") as stream:
        stream.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path, text: str) -> None:
    """Another file of the same size and times in its place."""
    before = path.stat()
    new = path.with_name("new")
    new.write_text(text)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.rename(new, path)


def relink(path: Path, target: str) -> None:
    before = path.lstat()
    path.unlink()
    path.symlink_to(target)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


def archive(text: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("in-it")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def swap_directory(top: Path) -> None:
    """Another directory of the same name, the old one as it was beside it."""
    os.rename(top / "src/sub", top / "away")
    (top / "src/sub").mkdir()
    (top / "src/sub/two").write_text("22")


def swap_back(top: Path) -> None:
    shutil.rmtree(top / "src/sub")
    os.rename(top / "away", top / "src/sub")


def to_link(top: Path) -> None:
    (top / "src/one").unlink()
    (top / "src/one").symlink_to("/etc/passwd")


def to_file(top: Path) -> None:
    (top / "src/one").unlink()
    (top / "src/one").write_text("1")


CHANGES: dict[str, tuple[Change, Change]] = {
    "content, size and time as before": (
        lambda t: put(t / "src/one", "x"),
        lambda t: put(t / "src/one", "1"),
    ),
    "another file, size and time as before": (
        lambda t: replace(t / "src/one", "x"),
        lambda t: replace(t / "src/one", "1"),
    ),
    "size": (
        lambda t: (t / "src/one").write_text("more"),
        lambda t: (t / "src/one").write_text("1"),
    ),
    "mode of a file": (lambda t: (t / "src/one").chmod(0o600), lambda t: (t / "src/one").chmod(0o644)),
    "set-user-ID bit": (lambda t: (t / "src/one").chmod(0o4755), lambda t: (t / "src/one").chmod(0o644)),
    "mode of a directory": (lambda t: (t / "src/sub").chmod(0o700), lambda t: (t / "src/sub").chmod(0o755)),
    "owner": (lambda t: os.chown(t / "src/one", 5, 6), lambda t: os.chown(t / "src/one", 0, 0)),
    "attribute": (
        lambda t: os.setxattr(t / "src/one", "user.a", b"1"),
        lambda t: os.removexattr(t / "src/one", "user.a"),
    ),
    "target of a link": (lambda t: relink(t / "src/link", "sub"), lambda t: relink(t / "src/link", "one")),
    "a file for a link": (to_link, to_file),
    "one file more": (
        lambda t: (t / "src/sub/new").write_text("new"),
        lambda t: (t / "src/sub/new").unlink(),
    ),
    "one file less": (
        lambda t: (t / "src/sub/two").unlink(),
        lambda t: (t / "src/sub/two").write_text("2"),
    ),
    "one directory less": (
        lambda t: shutil.rmtree(t / "src/sub"),
        lambda t: ((t / "src/sub").mkdir(), (t / "src/sub/two").write_text("2")),
    ),
    "a directory moved away, another in its place": (swap_directory, swap_back),
    "two files become one with two names": (
        lambda t: ((t / "src/twin").unlink(), os.link(t / "src/one", t / "src/twin")),
        lambda t: ((t / "src/twin").unlink(), (t / "src/twin").write_text("1")),
    ),
    "another name": (
        lambda t: os.rename(t / "src/one", t / "src/uno"),
        lambda t: os.rename(t / "src/uno", t / "src/one"),
    ),
    "an archive": (
        lambda t: put(t / "src.tar", archive("x")),
        lambda t: put(t / "src.tar", archive("1")),
    ),
    "an archive in another file": (
        lambda t: ((t / "new").write_bytes(archive("x")), os.rename(t / "new", t / "src.tar")),
        lambda t: ((t / "new").write_bytes(archive("1")), os.rename(t / "new", t / "src.tar")),
    ),
    "an archive that is none any more": (
        lambda t: put(t / "src.tar", b"\xff" * len(archive("1"))),
        lambda t: put(t / "src.tar", archive("1")),
    ),
}

ENTRIES = {
    "COPY": "FROM scratch\nCOPY src /d/\nCOPY src/one /e\nCOPY src.tar /f\n",
    "ADD": "FROM scratch\nADD src /d/\nADD src.tar /f/\n",
    "COPY --from=named": "FROM scratch\nCOPY --from=named src /d/\nCOPY --from=named src.tar /f\n",
    "a pattern": "FROM scratch\nCOPY src/* /d/\nCOPY sr?.tar /f\n",
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "context"
    (top / "src/sub").mkdir(parents=True)
    (top / "src/one").write_text("1")
    (top / "src/twin").write_text("1")
    (top / "src/sub/two").write_text("2")
    (top / "src/link").symlink_to("one")
    (top / "src.tar").write_bytes(archive("1"))
    return top


class Place:
    def __init__(self, path: Path, top: Path, text: str) -> None:
        self.path, self.top, self.count = path, top, 0
        (top / "Dockerfile").write_text(text)

    def build(self, store: str = "store", **more: Any) -> object:
        """The files that come of it, or the error."""
        self.count += 1
        out = self.path / f"out-{self.count}"
        options = BuildOptions(
            context=str(self.top),
            contexts={"named": str(self.top)},
            root=str(self.path / store),
            outputs=(Output("local", str(out)),),
            **more,
        )
        try:
            build(options)
        except BuildError as error:
            return error.what
        return seen(str(out))

    def fresh(self) -> object:
        """What a store that knows nothing gives."""
        self.count += 1
        return self.build(f"store-{self.count}")


def once(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], times: int = 1) -> list[int]:
    """Have something change when the digests are made and nothing is copied yet; returns what counts the times."""
    original, done = Copier.copy, list[int]()

    def copy(self: Copier, *args: Any, **more: Any) -> None:
        if len(done) < times:
            done.append(1)
            change()
        original(self, *args, **more)

    monkeypatch.setattr(Copier, "copy", copy)
    return done


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", CHANGES)
def test_what_changes_before_it_is_copied(tmp_path, top, monkeypatch, kind, entry):
    place = Place(tmp_path, top, ENTRIES[entry])
    change, back = CHANGES[kind]
    old = place.fresh()
    done = once(monkeypatch, lambda: change(top))
    first = place.build(jobs=1)
    assert done
    new = place.fresh()
    assert place.build() == new
    assert place.build() == new
    back(top)
    assert place.fresh() == old
    assert place.build() == old
    if len(ENTRIES[entry].splitlines()) == 2:
        assert first in (old, new)


@pytest.mark.parametrize("entry", ["COPY", "ADD"])
def test_what_changes_while_it_is_copied_and_changes_back(tmp_path, top, monkeypatch, entry):
    """The status before and after says the same but for the change time."""
    place = Place(tmp_path, top, ENTRIES[entry])
    old = place.fresh()
    contents = run_step.copy_content
    done: list[int] = []

    def copy_content(reader: int, writer: int) -> None:
        if done:
            return contents(reader, writer)
        done.append(1)
        path = Path(os.readlink(f"/proc/self/fd/{reader}"))
        before = path.read_bytes()
        put(path, b"#" * len(before))
        contents(reader, writer)
        put(path, before)

    monkeypatch.setattr(run_step, "copy_content", copy_content)
    if entry == "ADD":
        applied = applying.Applier.apply

        def apply(self: Any, stream: Any) -> None:
            if len(done) < 2:
                done.append(2)
                before = (top / "src.tar").read_bytes()
                put(top / "src.tar", archive("x"))
                applied(self, gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(archive("x")))))
                put(top / "src.tar", before)
            else:
                applied(self, stream)

        monkeypatch.setattr(applying.Applier, "apply", apply)
    assert place.build(jobs=1) == old
    assert len(done) == (2 if entry == "ADD" else 1)
    assert place.build() == old


def test_a_file_that_never_rests_is_an_error(tmp_path, top, monkeypatch):
    place = Place(tmp_path, top, "FROM scratch\nCOPY src /d/\n")
    numbers = iter(range(100))
    done = once(monkeypatch, lambda: put(top / "src/one", str(next(numbers) % 10)), times=100)
    with pytest.raises(BuildError, match="'src/one' changed while it was copied") as caught:
        build(BuildOptions(context=str(top), root=str(tmp_path / "store")))
    assert ".dockerignore" in caught.value.hint and caught.value.where.start == 2
    assert 1 < len(done) < 10
    with Store(str(tmp_path / "store")) as store:
        assert os.listdir(store.tmp) == [] and os.listdir(os.path.join(store.root, "snapshots")) == []
    monkeypatch.undo()
    assert place.build() == place.fresh()


def test_what_is_cached_already_is_not_copied_again(tmp_path, top, monkeypatch):
    """The files change to what another build has copied."""
    place = Place(tmp_path, top, "FROM scratch\nCOPY src /d/\n")
    put(top / "src/one", "x")
    new = place.build()
    put(top / "src/one", "1")
    done = once(monkeypatch, lambda: put(top / "src/one", "x"))
    events: list[str] = []
    options = BuildOptions(
        context=str(top), root=str(tmp_path / "store"), outputs=(Output("local", str(tmp_path / "o")),)
    )
    build(options, lambda event: events.append(event.kind) if event.step is not None else None)
    assert done and seen(str(tmp_path / "o")) == new
    assert events.count("start") == events.count("done") == 1


def test_files_that_a_run_mounts(box, top, monkeypatch):
    text = "FROM box\nRUN --mount=type=bind,source=src,target=/m cp /m/one /out\n"
    (top / "Dockerfile").write_text(text)
    number = iter(range(9))

    def files() -> str:
        out = box.path / f"files-{next(number)}"
        options = BuildOptions(
            context=str(top),
            root=str(box.store),
            outputs=(Output("local", str(out)),),
            run_defaults=RunRequest(("",), "/", isolation="chroot", terminal="without", http_proxy=True),
        )
        build(options)
        return (out / "out").read_text()

    done = once(monkeypatch, lambda: put(top / "src/one", "x"))
    assert files() == "x" and done
    assert files() == "x"
    put(top / "src/one", "1")
    assert files() == "1"


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(tmp_path, top, monkeypatch):
    from buildfront.engine import content

    place = Place(tmp_path, top, "FROM scratch\nCOPY src /d/\n")
    old = place.fresh()
    original, done = content.hash_fd, list[int]()

    def hash_fd(fd: int, status: os.stat_result, *more: Any) -> str:
        value = original(fd, status)
        if not done and os.readlink(f"/proc/self/fd/{fd}").endswith("/one"):
            done.append(1)
            put(top / "src/one", "x")
        return value

    monkeypatch.setattr(content, "hash_fd", hash_fd)
    new = place.build()
    assert done and new == place.fresh() != old
    put(top / "src/one", "1")
    assert place.build() == old


# stages that run again


def test_a_stage_that_another_build_replaces_meanwhile(box, monkeypatch):
    """A build that had begun reads the files of the earlier run; what it learns of them is not said of the new ones."""
    text = "FROM box AS a\nRUN cat /proc/sys/kernel/random/uuid > /n\nFROM scratch\nCOPY --from=a /n /n\n"
    context = box.context(text)
    isolation = ("--isolation", "chroot")
    before = (box.files(context, "--target", "a", *isolation) / "n").read_text()
    original, done = ContentDigests.of_tree, list[int]()

    def of_tree(self: ContentDigests, *args: Any) -> Any:
        if not done:
            done.append(1)
            box.build(context, "--target", "a", "--no-cache", *isolation)
        return original(self, *args)

    monkeypatch.setattr(ContentDigests, "of_tree", of_tree)
    out = box.path / "out"
    run = RunRequest(("",), "/", isolation="chroot", terminal="without", http_proxy=True)
    build(
        BuildOptions(
            context=str(context), root=str(box.store), run_defaults=run, outputs=(Output("local", str(out)),)
        )
    )
    assert done and (out / "n").read_text() == before
    now = (box.files(context, "--target", "a", *isolation) / "n").read_text()
    assert (box.files(context, *isolation) / "n").read_text() == now != before


@pytest.mark.parametrize("source", ["", "source=/,", "source=/n,"])
def test_a_mounted_stage_that_ran_again_is_read_again(box, source):
    target = "/a/n" if "n" in source.removeprefix("source") else "/a"
    text = "FROM box AS a\nRUN cat /proc/sys/kernel/random/uuid > /n\n"
    text += f"FROM box\nRUN --mount=from=a,{source}target={target} cp /a/n /copy\n"
    context = box.context(text)
    isolation = ("--isolation", "chroot")
    before = (box.files(context, *isolation) / "copy").read_text()
    box.build(context, "--target", "a", "--no-cache", *isolation)
    now = (box.files(context, "--target", "a", *isolation) / "n").read_text()
    assert (box.files(context, *isolation) / "copy").read_text() == now != before
