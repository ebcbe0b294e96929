"""Overlays of more directories than fit into the options of mount(2)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from test_store_snapshots import isolated  # noqa: F401

from buildfront.store.snapshots import overlay_mount
from buildfront.store.snapshots.overlay import OverlayDriver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays")


def lineage_of(place: Path, count: int) -> list[str]:
    """The directories of so many snapshots, topmost first; number N has the files ``N`` and ``all``."""
    out = []
    for number in range(count):
        path = place / str(number) / "diff"
        path.mkdir(parents=True)
        (path / str(number)).touch()
        (path / "all").write_text(str(number))
        out.append(str(path.parent))
    return out


def use(place: Path, count: int) -> None:
    """Read a stack of snapshots, change it, and read the result."""
    driver, lineage = OverlayDriver(), lineage_of(place, count)
    for name in ("view", "work", "again"):
        (place / name).mkdir()
    with driver.view(str(place / "view"), lineage) as view:
        assert len(os.listdir(view.path)) == count + 1
        assert Path(view.path, "all").read_text() == "0"
    assert os.listdir(place / "view") == []
    active = driver.prepare(str(place / "work"), lineage)
    os.unlink(os.path.join(active.path, str(count - 1)))
    os.unlink(os.path.join(active.path, "0"))
    Path(active.path, "all").write_text("new")
    made = active.finish()
    assert os.listdir(place / "work" / "rootfs") == []
    with driver.view(str(place / "again"), [made, *lineage[: count - 1], lineage[-1]][: count + 1]) as view:
        names = set(os.listdir(view.path))
        assert names == {str(number) for number in range(1, count - 1)} | {"all"}
        assert Path(view.path, "all").read_text() == "new"


@pytest.mark.parametrize("count", [2, 200, 201, 230, 499, 500, 501, 998])
def test_a_stack_of_snapshots_is_read_and_changed(tmp_path: Path, isolated: Any, count: int) -> None:  # noqa: F811
    isolated(lambda: use(tmp_path, count))


@pytest.mark.parametrize("missing", [errno.ENOSYS, errno.EINVAL, errno.EPERM])
def test_without_the_newer_calls_two_overlays_do(
    tmp_path: Path,
    isolated: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    missing: int,
) -> None:
    """A kernel that lacks them can't be had here."""

    def refused(*_: object) -> None:
        raise OSError(missing, os.strerror(missing))

    monkeypatch.setattr(overlay_mount, "mount_with", refused)
    isolated(lambda: use(tmp_path, 398))
    with pytest.raises(OSError, match="450 layers are more than the 399 that can be mounted") as caught:
        isolated(lambda: OverlayDriver().view(str(tmp_path / "view"), lineage_of(tmp_path / "more", 450)))
    assert caught.value.errno == errno.E2BIG
    assert os.listdir(tmp_path / "view") == []


def test_more_than_two_overlays_can_have_is_an_error(tmp_path: Path, isolated: Any) -> None:  # noqa: F811
    (tmp_path / "view").mkdir()
    with pytest.raises(OSError, match="1000 layers are more than the") as caught:
        isolated(lambda: OverlayDriver().view(str(tmp_path / "view"), lineage_of(tmp_path, 1000)))
    assert caught.value.errno == errno.E2BIG
