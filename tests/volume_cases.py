"""The cases of testdata/volumes: Dockerfiles with VOLUME, and what three other builders make of them.

A case is a directory with a Dockerfile whose steps write down what they see, ``context/`` with what is sent along, a
file ``Base`` where another image comes first, and a record for each peer: what the image has that its base, ``box``,
has not (see mount_cases). ``tools/record_volumes.py`` writes the records, and ``tests/build/test_build_volumes.py``
compares ours with them: what we do by default with BuildKit's, what we do with ``--compat-volumes`` with the others'.

In case.toml::

    says = "…"              # a build that fails: what our error has to match
    [[differences]]         # where we differ: from which peers, why (a key of REASONS), and gone,
    peers = ["docker"]      # or path and instead (lines of a file), or status
"""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent.parent / "testdata" / "volumes"
NAMES = sorted(path.parent.name for path in DIRECTORY.glob("*/Dockerfile"))
PEERS = ("buildkit", "docker", "buildah")
"""BuildKit; docker's old builder; buildah 1.28, which does what ``--compat-volumes`` does in later ones."""
REASONS = {
    "mount-points": "a volume that the image lacks is made in the image by the others; here the step has it, and its"
    " place is gone from the layer like any other mount point (S54)",
    "file": "buildah makes a directory of a volume that is a file; here it is refused, as by docker",
    "late": "without --layers, buildah restores an inherited volume before the commit alone; here after each RUN",
    "busy": "with buildah a step may remove a volume's directory; here it is a mount, as with docker",
}
MADE = frozenset(
    ".dockerenv run run/secrets run/.containerenv dev/console dev/pts dev/shm etc/mtab etc/hosts etc/hostname"
    " etc/resolv.conf".split()
)
"""What the other builders leave of their own in an image or in the container that it is read through."""


@dataclass(frozen=True)
class Case:
    """One case."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return DIRECTORY / self.name

    @property
    def settings(self) -> dict[str, Any]:
        """Its case.toml."""
        file = self.path / "case.toml"
        return tomllib.loads(file.read_text()) if file.exists() else {}

    def record(self, peer: str) -> Path:
        """What a peer made of it."""
        return self.path / f"{peer}.json"

    def expected(self, peer: str) -> dict[str, Any]:
        """The record with our differences put in; a difference that changes nothing is one too many."""
        record: dict[str, Any] = json.loads(self.record(peer).read_text())
        files = {item["path"]: item for item in record["files"]}
        status = record["status"]
        for difference in self.settings.get("differences", ()):
            assert difference["why"] in REASONS, difference
            if peer not in difference["peers"]:
                continue
            if "status" in difference:
                assert status != difference["status"], f"{difference} is no difference"
                status, files = difference["status"], {}
            for path in difference.get("gone", ()):
                assert files.pop(path, None), f"{peer} has no {path} here"
            if "path" in difference:
                item, instead = files[difference["path"]], difference["instead"]
                assert set(instead) <= set(item["lines"]), f"{peer} has no such lines: {instead}"
                item["lines"] = [instead.get(line, line) for line in item["lines"]]
        return {"status": status, "files": files}

    def contexts(self, place: Path) -> list[tuple[str, Path]]:
        """The builds of the case, made in ``place``: tag and context, the last one the case's own."""
        made = []
        for tag, file in (("volume-base", "Base"), ("volume-case", "Dockerfile")):
            if not (self.path / file).exists():
                continue
            context = place / tag
            shutil.rmtree(context, ignore_errors=True)
            context.mkdir(parents=True)
            if (self.path / "context").exists():
                shutil.copytree(self.path / "context", context, dirs_exist_ok=True)
            for item in [context, *context.rglob("*")]:
                item.chmod(0o755 if item.is_dir() else 0o644)
            shutil.copyfile(self.path / file, context / "Dockerfile")
            made.append((tag, context))
        return made
