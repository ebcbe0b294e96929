"""The whole message for each broken Dockerfile of testdata/broken, as golden files.

A Dockerfile may begin with ``# options: …``, more options of the build. ``make golden`` writes the messages anew.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import tarfile
from typing import Any

import pytest
from program import PROJECT

BROKEN = PROJECT / "testdata" / "broken"
NAMES = sorted(path.stem for path in (BROKEN / "dockerfiles").glob("*.Dockerfile"))
WRITE = os.environ.get("BUILDFRONT_GOLDEN_ERRORS") == "write"


@pytest.fixture
def place(box: Any) -> Any:
    box("tag", "box", "base")
    path = box.path / "place"
    shutil.copytree(BROKEN / "context", path / "context")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(BROKEN / "dockerfiles", "dockerfiles")
    whole = stream.getvalue()
    (path / "context" / "broken.tar.gz").write_bytes(whole[: len(whole) // 2])
    return box


@pytest.mark.parametrize("name", NAMES)
def test_the_message_of_a_broken_dockerfile(place: Any, name: str) -> None:
    dockerfile = BROKEN / "dockerfiles" / f"{name}.Dockerfile"
    directory = place.path / "place"
    shutil.copy(dockerfile, directory / "Dockerfile")
    first = dockerfile.read_bytes().split(b"\n")[0].decode("utf-8", "replace")
    options = shlex.split(first.removeprefix("# options:")) if first.startswith("# options:") else []
    command = [
        "build",
        "--progress",
        "plain",
        "--isolation",
        "chroot",
        "-f",
        "Dockerfile",
        *options,
        "context",
    ]
    done = place(*command, check=False, cwd=directory)
    assert done.returncode != 0, done.stderr
    assert "Traceback" not in done.stderr
    message = _message(done.stderr)
    golden = BROKEN / "messages" / f"{name}.txt"
    if WRITE:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(message)
    assert message == golden.read_text()


def test_each_message_belongs_to_a_dockerfile() -> None:
    assert sorted(path.stem for path in (BROKEN / "messages").glob("*.txt")) == NAMES
    assert len(NAMES) >= 150


def _message(output: str) -> str:
    """The message without the progress before it."""
    lines = output.splitlines()
    starts = [
        at
        for at, line in enumerate(lines)
        if line.startswith(("error: ", "the step's last output:", "Dockerfile:"))
    ]
    text = "\n".join(lines[starts[0] :]) + "\n"
    # The reason is the machine's: without a network a name can't be resolved in more than one way.
    return re.sub(r"(the registry \S+ can't be reached): .*", r"\1", text)
