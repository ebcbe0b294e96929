"""A wholly cached build is answered from its note, and only while nothing has changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buildfront.memo import _options

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
