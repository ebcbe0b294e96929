"""Snapshots on the kernel's overlayfs: each is one directory of changes, in the format of overlayfs."""

from __future__ import annotations

import os
import shutil

from run_step import is_machine_root, remove_tree

from ...image.diff import Comparison, xattrs
from .interface import View
from .overlay_mount import mount_overlay, unmount


def works(directory: str) -> bool:
    """Whether an overlay can be mounted with its upper directory here.

    A directory is replaced in it too, which needs an extended attribute of the filesystem below.
    """
    base = os.path.join(directory, "overlay-probe")
    names = [os.path.join(base, name) for name in ("lower", "upper", "work", "merged")]
    try:
        for name in (*names, os.path.join(names[0], "directory")):
            os.makedirs(name)
        mount_overlay(names[3], [names[0]], names[1], names[2])
        try:
            os.rmdir(os.path.join(names[3], "directory"))
            os.mkdir(os.path.join(names[3], "directory"))
        finally:
            unmount(names[3])
        return True
    except OSError:
        return False
    finally:
        shutil.rmtree(base, ignore_errors=True)


class OverlayActive:
    """An overlay that is mounted to be changed."""

    def __init__(self, work: str, lineage: list[str]) -> None:
        self.path = os.path.join(work, "rootfs")
        self._work = work
        self._snapshot = os.path.join(work, "snapshot")
        diff, scratch = os.path.join(self._snapshot, "diff"), os.path.join(work, "work")
        for name in (self.path, self._snapshot, diff, scratch):
            os.mkdir(name)
            os.chmod(name, 0o755)  # whatever our umask: it is a root filesystem's
        lower = [os.path.join(item, "diff") for item in lineage]
        if lower:
            root = os.stat(lower[0])
            os.chown(diff, root.st_uid, root.st_gid)
            os.chmod(diff, root.st_mode & 0o7777)
            for key, value in xattrs(lower[0]).items():
                os.setxattr(diff, key, value)
            os.utime(diff, ns=(root.st_atime_ns, root.st_mtime_ns))
        else:
            # An overlay needs a lower directory: scratch is an empty one.
            lower = [os.path.join(work, "empty")]
            os.mkdir(lower[0])
            os.chmod(lower[0], 0o755)
        self._mounts = mount_overlay(self.path, lower, diff, scratch)

    def finish(self) -> str:
        """Return the directory that becomes the snapshot; nothing of it is mounted any more."""
        unmount(self.path, self._mounts)
        self._mounts = 0
        return self._snapshot

    def discard(self) -> None:
        """Throw the changes away."""
        self.finish()
        remove_tree(self._work)


class OverlayDriver:
    """A :class:`~buildfront.store.snapshots.Driver`."""

    name = "overlay"

    def prepare(self, work: str, lineage: list[str]) -> OverlayActive:
        """Make a writable root filesystem in ``work``, on ``lineage``."""
        return OverlayActive(work, lineage)

    def view(self, work: str, lineage: list[str]) -> View:
        """Make a root filesystem to read in ``work``."""
        if not lineage:
            return View(work)
        if len(lineage) == 1:
            return View(os.path.join(lineage[0], "diff"))
        mounts = mount_overlay(work, [os.path.join(item, "diff") for item in lineage])
        return View(work, mounts)

    def comparison(self, directory: str) -> tuple[str, Comparison]:
        """Return the tree of a finished snapshot, and the way to compare it with its parent's view."""
        prefix = "trusted" if is_machine_root() else "user"
        return os.path.join(directory, "diff"), Comparison(complete=False, opaque=f"{prefix}.overlay.opaque")
