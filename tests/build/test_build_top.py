"""What a step changes of / itself, of access control lists and of times is kept, or told."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

CHANGES = "FROM box\nRUN chmod 1750 / && chown 3:4 /\nRUN stat -c %a:%u:%g / && echo x > /x\n"


def members(archive: Path) -> list[tarfile.TarInfo]:
    """What the layers of an image hold but for those of its base."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> Any:
            stream = tar.extractfile(name)
            assert stream is not None
            return stream

        index = json.load(read("index.json"))
        manifest = json.load(read("blobs/" + index["manifests"][0]["digest"].replace(":", "/")))
        found: list[tarfile.TarInfo] = []
        for layer in manifest["layers"][1:]:
            with tarfile.open(fileobj=read("blobs/" + layer["digest"].replace(":", "/"))) as inner:
                found += inner
    return found


@pytest.mark.parametrize("snapshots", ["overlay", "copy"])
def test_a_change_of_the_root_directory_alone(
    box: Any, isolation: str, snapshots: str, tmp_path: Path
) -> None:
    env = {"BUILDFRONT_SNAPSHOTS": snapshots}
    archive = tmp_path / "a.tar"
    words = ("--isolation", isolation, "-o", f"type=oci,dest={archive}")
    for _ in range(2):
        done = box.build(box.context(CHANGES), *words, env=env)
        (found,) = [member for member in members(archive) if member.name in (".", "")]
        assert (found.mode, found.uid, found.gid, found.isdir()) == (0o1750, 3, 4, True)
    assert done.stderr.count("CACHED") == 3
    box.store = tmp_path / "fresh"
    box("load", "-i", archive, "-t", "changed")
    context = box.context("FROM changed\nRUN stat -c =%a:%u:%g /\n")
    assert "=1750:3:4" in box.build(context, "--isolation", isolation, env=env).stderr


PROGRAM = """
#include <sys/xattr.h>
int main(int count, char **words) {
    static const unsigned short list[] = {2, 0, 1, 6, 0xffff, 0xffff, 2, 4, 5, 0, 4, 4, 0xffff, 0xffff,
                                          16, 4, 0xffff, 0xffff, 32, 4, 0xffff, 0xffff};
    for (int at = 1; at < count; at++)
        if (setxattr(words[at], "system.posix_acl_access", list, sizeof list, 0)) return 1;
    return 0;
}
"""
"""Gives files the list ``u::rw,u:5:r,g::r,m::r,o::r`` (struct posix_acl_xattr_header and its entries)."""


def test_an_access_control_list_is_told_of(box: Any, isolation: str) -> None:
    """Images of docker and BuildKit have none either."""
    context = box.context("FROM box\nCOPY set-list /bin/\nRUN echo a > /a && echo b > /b && set-list /a /b\n")
    (context / "set-list.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-static", "-o", context / "set-list", context / "set-list.c"], check=True)
    done = box.build(context, "--isolation", isolation)
    told = "warning: /a and 1 more lost the access control list that the step left: no image has one"
    assert done.stderr.count(told) == 1
    assert "access control" not in box.build(context, "--isolation", isolation).stderr


def test_times_are_rounded_down(box: Any, tmp_path: Path) -> None:
    """As GNU tar and Go do, before 1970 as well."""
    context = box.context("FROM box\nCOPY f g /\n", f="f", g="g")
    second = 1_580_608_922
    os.utime(context / "f", ns=(0, second * 10**9 + 999_999_999))
    os.utime(context / "g", ns=(0, -(10**9) - 1))
    box.build(context, "-o", f"type=oci,dest={tmp_path / 'a.tar'}")
    times = {member.name: member.mtime for member in members(tmp_path / "a.tar")}
    assert (times["f"], times["g"]) == (second, -2)
