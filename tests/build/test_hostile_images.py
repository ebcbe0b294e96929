"""Images with links in the places that a step mounts on, by each entry and each way to run a step: the host stays as it
is, and the layer has what the command did and nothing else."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mount_builds import WAYS, Place, Way
from rows import row


def canary(path: Path) -> dict[str, tuple[object, ...]]:
    """What is in a directory of the host."""
    found: dict[str, tuple[object, ...]] = {}
    for top, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            status = os.lstat(os.path.join(top, name))
            found[os.path.join(top, name)] = (
                status.st_ino,
                status.st_mode,
                status.st_uid,
                status.st_mtime_ns,
            )
    return found


def targets(path: Path) -> dict[str, str]:
    """Where the links lead to: absolute, by the way up, by another link, to nothing."""
    up = "../" * 30
    return {
        "dev": str(path),
        "proc": f"{up}{path}",
        "sys": "hop",
        "hop": f"{path}/sub",
        "run": f"{path}/not/there",
        "etc/hosts": f"{up}{path}/hosts",
        "etc/resolv.conf": f"{path}/resolv.conf",
    }


@row("S54")
@pytest.mark.parametrize("entry", ["copied", "added", "imported"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_nothing_is_made_on_the_host_by_the_links_of_an_image(
    place_of: Callable[..., Place], way: Way, entry: str
) -> None:
    place = place_of(way)
    host = place.outside / "canary"
    (host / "sub").mkdir(parents=True)
    for name in ("ptmx", "hosts", "sub/fs"):
        (host / name).write_text("the host's own\n")
    for path in (host, host / "sub", *host.glob("*")):
        path.chmod(0o777)
    copy = {"copied": "COPY tree/ /", "added": "ADD tree.tar /", "imported": ""}[entry]
    base = "FROM odd" if entry == "imported" else f"FROM scratch\nCOPY --from=box /bin /bin\n{copy}"
    context = place.context(
        f"{base}\nRUN --mount=type=tmpfs,target=/m test -c /dev/null && test -d /proc/self && test -d /sys/class && "
        "echo made > /made\n"
    )
    tree = context / "tree"
    (tree / "etc").mkdir(parents=True)
    for name, target in targets(host).items():
        (tree / name).symlink_to(target)
    with tarfile.open(place.outside / "box.tar") as box, tarfile.open(context / "tree.tar", "w") as tar:
        tar.add(tree, ".")
        for member in box.getmembers() if entry == "imported" else ():
            if "/bin" in member.name:
                tar.addfile(member, box.extractfile(member) if member.isreg() else io.BytesIO())
    if entry == "imported":
        place.run("import", context / "tree.tar", "-t", "odd")
    before = canary(host)
    layers = place.layers(context)
    assert canary(host) == before
    assert [name.strip("./") for name in layers[-1] if name.strip("./")] == ["made"]
    assert place.left() == []
