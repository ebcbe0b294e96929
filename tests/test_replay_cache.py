"""A wholly cached build is answered from its note, and only while nothing has changed."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.replay_cache import Note, _format, _options, _parse

BUILDFRONT = str(Path(sys.executable).parent / "buildfront")
HEAVY = {
    "click",
    "dockerfile_parse",
    "sqlite3",
    "rich",
    "jsonschema",
    "pyroute2",
    "httpx",
    "httpcore",
    "asyncio",
    "dataclasses",
}


class Build:
    """One context and one store; each call says what was printed and which modules were loaded."""

    def __init__(self, tmp_path: Path) -> None:
        self.context = tmp_path / "context"
        self.store = tmp_path / "store"
        (self.context / "dir").mkdir(parents=True)
        (self.context / "Dockerfile").write_text("FROM scratch\nCOPY dir /dir\nCOPY one /\nENV A=1\n")
        (self.context / "dir" / "file").write_text("content")
        (self.context / "one").write_text("1")

    def rest(self) -> None:
        """Let the files become old enough to be trusted; their times can't be set, change times are the kernel's."""
        newest = max(
            path.lstat().st_ctime_ns
            for path in [self.context, *self.context.rglob("*"), self.store / "index.json"]
        )
        while time.time_ns() - newest < 150_000_000:
            time.sleep(0.02)

    def __call__(self, *more: str) -> tuple[str, bool]:
        code = (
            "import sys; sys.argv = ['buildfront', *sys.argv[1:]]\n"
            "from buildfront.__main__ import main\n"
            "try: main()\n"
            "finally: open(3, 'w').write(' '.join(sys.modules))\n"
        )
        reader, writer = os.pipe()
        command = [sys.executable, "-c", code, "build", "-t", "x", *more, str(self.context)]
        env = {**os.environ, "BUILDFRONT_ROOT": str(self.store)}

        def third() -> None:
            os.dup2(writer, 3, inheritable=True)

        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, pass_fds=(3,), preexec_fn=third
        )
        os.close(writer)
        with os.fdopen(reader) as stream:
            modules = set(stream.read().split())
        return done.stdout + done.stderr, not (modules & HEAVY)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    made = Build(tmp_path)
    made()
    made.rest()
    made()
    return made


def test_a_cached_build_is_answered_without_loading_anything_heavy(build: Build) -> None:
    ordinary, _ = build("--jobs", "2")
    text, light = build()
    assert light
    assert text == ordinary


@pytest.mark.parametrize(
    "change",
    [
        lambda c, s: (c / "one").write_text("2"),
        lambda c, s: (c / "dir" / "new").write_text(""),
        lambda c, s: (c / "dir" / "file").chmod(0o600),
        lambda c, s: (c / "Dockerfile").write_text("FROM scratch\nCOPY one /\n"),
        lambda c, s: (c / ".dockerignore").write_text("one2\n"),
        lambda c, s: (c / "Dockerfile.dockerignore").write_text("one2\n"),
        lambda c, s: os.replace(c / "dir" / "file", c / "one"),
        lambda c, s: (s / "index.json").write_text((s / "index.json").read_text()),
        lambda c, s: next((s / "blobs" / "sha256").iterdir()).unlink(),
    ],
    ids=["file", "new-file", "mode", "dockerfile", "ignore", "own-ignore", "renamed", "names", "blob-gone"],
)
def test_any_change_goes_the_ordinary_way(build: Build, change) -> None:  # type: ignore[no-untyped-def]
    change(build.context, build.store)
    try:
        _, light = build()
    except subprocess.CalledProcessError as error:
        assert "dir/file" in str(error.stderr) or "blob" in str(error.stderr)
        return
    assert not light


def test_content_that_keeps_size_and_modification_time_is_seen(build: Build) -> None:
    before, _ = build()
    path = build.context / "one"
    status = path.stat()
    path.write_text("2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after, light = build()
    assert not light
    assert before.splitlines()[-1] != after.splitlines()[-1] or before != after


@pytest.mark.parametrize(
    "argv",
    [
        ["build", "--no-cache", "."],
        ["build", "-o", "out", "."],
        ["build", "--build-arg", "FROM_ENVIRONMENT", "."],
        ["build", "--progress=rawjson", "."],
        ["build", "-f", "-", "."],
        ["build", "-"],
        ["build", "a", "b"],
        ["plan", "."],
        ["build", "-t"],
        ["--unknown", "build"],
    ],
)
def test_other_command_lines_are_not_answered(argv: list[str]) -> None:
    assert _options(argv) is None


def test_the_options_of_a_plain_build() -> None:
    argv = ["--root", "/s", "build", "-q", "--tag=a", "-t", "b", "--build-arg", "A=B=C", "."]
    assert _options(argv) == {"--root": "/s", "-q": "-q", "--tag": "a", "-t": "b", "--build-arg": "A=B=C"}


# notes that nobody of us wrote


def notes(build: Build) -> list[Path]:
    return [path for path in (build.store / "memo").iterdir() if path.stat().st_size]


def kept_note(build: Build) -> Path:
    """The note of the plain command line; ``build`` calls with other words leave their own."""
    return notes(build)[0]


def change_field(number: int, value: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        fields = content.split(b"\0")
        fields[number] = value.encode()
        return b"\0".join(fields)

    return change


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "marshal": lambda _: marshal.dumps(([], [], "hello\n", "")),
    "cut": lambda content: content[:-20],
    "longer": lambda content: content + b"\0x",
    "other-format": change_field(0, "buildfront note 2"),
    "count": change_field(1, "1000000000000"),
    "negative": change_field(2, "-1"),
    "no-image": change_field(3, "hello\n"),
    "escapes-in-the-image": change_field(3, "\x1b[2J\n"),
    "escapes": change_field(4, "\x1b]0;title\x07"),
    "a-blob-elsewhere": change_field(5, "../../../../etc/passwd"),
    "no-number": change_field(-1, "1 2 3 4 5 x"),
    "large-number": change_field(-1, "1 2 3 4 5 " + "9" * 5000),
    "relative": change_field(-2, "etc/passwd"),
    "no-text": lambda content: content.replace(b"sha256:", b"\xff\xfe\xff"),
    "large": lambda content: content + b" " * (17 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_note_that_is_none_is_not_believed(build: Build, name: str) -> None:
    ordinary, _ = build()
    note = kept_note(build)
    note.write_bytes(HOSTILE[name](note.read_bytes()))
    text, light = build()
    assert not light and text == ordinary


@pytest.mark.parametrize(
    "kind", ["link", "fifo", "directory", "link-above", "eves", "open-store", "open-above"]
)
def test_a_note_is_read_only_where_nobody_else_could_leave_it(build: Build, kind: str) -> None:
    ordinary, light = build()
    assert light
    note = kept_note(build)
    if kind == "link":
        note.rename(build.store.parent / "elsewhere")
        note.symlink_to(build.store.parent / "elsewhere")
    elif kind == "fifo":
        note.unlink()
        os.mkfifo(note)
    elif kind == "directory":
        note.unlink()
        note.mkdir()
    elif kind == "link-above":
        (build.store / "memo").rename(build.store.parent / "memo")
        (build.store / "memo").symlink_to(build.store.parent / "memo")
    elif kind == "eves":
        os.chown(note, 4322, 4322)
    else:
        (build.store if kind == "open-store" else build.store.parent).chmod(0o777)
    try:
        text, light = build()
    except subprocess.CalledProcessError as error:
        assert kind in ("link-above", "open-store", "open-above") and "Traceback" not in error.stderr
        assert "can't be trusted" in error.stderr or "memo is a link" in error.stderr
        return
    assert not light and text == ordinary and kind not in ("open-store", "open-above")


@given(st.text() | st.lists(st.text()).map(lambda fields: "\0".join(["buildfront note 1", *fields])))
def test_whatever_a_note_says(text: str) -> None:
    found = _parse(text)
    assert found is None or _format(found) == text


signatures = st.none() | st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6)


@given(
    st.lists(
        st.tuples(st.text("ab/ \udcff").map(lambda path: "/" + path), signatures), min_size=1, max_size=5
    ),
    st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1, max_size=3),
    st.text("abc \n\t"),
)
def test_a_note_is_read_as_it_was_written(
    witnesses: list[tuple[str, tuple[int, ...] | None]], blobs: list[str], err: str
) -> None:
    note = Note(witnesses, blobs, f"sha256:{blobs[0]}\n", err)
    text = _format(note)
    assert text is not None and _parse(text) == note


def test_a_full_disk_leaves_no_half_note(build: Build) -> None:
    note = kept_note(build)
    note.unlink()
    from buildfront import replay_cache

    replay_cache._write(str(note), "x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        replay_cache._write(str(note.with_name("other")), "x")
    assert not [path for path in (build.store / "memo").iterdir() if path.name.startswith("other")]
