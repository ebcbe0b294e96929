"""Where the destination of a COPY leads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildfront.engine.ops.destination import make_directories, real_path
from buildfront.errors import BuildError
from run_step import Root


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "real/in").mkdir(parents=True)
    (tmp_path / "real/file").write_text("")
    for name, target in {
        "l": "real",
        "abs": "/real",
        "up": "../../../real",
        "real/back": "..",
        "dangling": "/nowhere/there",
        "beside": "none",
        "loop": "loop",
        "a": "b",
        "b": "a",
        "top": "/",
        "dots": "./real/./in/..",
    }.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", "/"),
        ("/x/y", "/x/y"),
        ("/l/file", "/real/file"),
        ("/l", "/real"),
        ("/l/", "/real"),
        ("/abs/in/x", "/real/in/x"),
        ("/up/in", "/real/in"),
        ("/real/back/l/x", "/real/x"),
        ("/dangling", "/nowhere/there"),
        ("/dangling/x", "/nowhere/there/x"),
        ("/beside", "/none"),
        ("/top/top/real", "/real"),
        ("/dots/x", "/real/x"),
        ("/x/../l", "/real"),
        ("/../../l", "/real"),
        ("/real/file/x", "/real/file/x"),
    ],
)
def test_links_are_followed_to_their_end(image: Path, path: str, found: str) -> None:
    with Root(str(image)) as root:
        assert real_path(root, path) == found


@pytest.mark.parametrize("path", ["/loop", "/loop/x", "/a", "/l/back/a/x"])
def test_links_in_a_circle(image: Path, path: str) -> None:
    with Root(str(image)) as root, pytest.raises(BuildError, match="too many symbolic links"):
        real_path(root, path)


def test_directories_are_made_where_they_are_missing(image: Path) -> None:
    with Root(str(image)) as root:
        make_directories(root, "/real/new/deep", 0o750, (os.getuid(), os.getgid()), "/x")
        assert (
            oct((image / "real/new").stat().st_mode)
            == oct((image / "real/new/deep").stat().st_mode)
            == "0o40750"
        )
        with pytest.raises(BuildError, match="the destination '/x' leads through a file of the image"):
            make_directories(root, "/real/file/new", 0o755, (0, 0), "/x")
        with pytest.raises(BuildError, match="can't be made: File name too long"):
            make_directories(root, "/" + "n" * 300, 0o755, (0, 0), "/" + "n" * 300)
