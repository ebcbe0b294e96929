"""The cases of testdata/volumes: Dockerfiles with VOLUME, and what three other builders make of them.

A case is a directory with a Dockerfile whose steps write down what they see, ``context/`` with what is sent along, a
file ``Base`` where another image comes first, and a record for each peer: what the image has that its base, ``box``,
has not. ``tools/record_volumes.py`` writes the records, and ``tests/build/test_build_volumes.py`` compares them with
ours.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent.parent / "testdata" / "volumes"
NAMES = sorted(path.parent.name for path in DIRECTORY.glob("*/Dockerfile"))
PEERS = ("buildkit", "docker", "buildah")
"""BuildKit; docker's old builder; buildah 1.28, which does what ``--compat-volumes`` does in later ones."""
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

    def record(self, peer: str) -> Path:
        """What a peer made of it."""
        return self.path / f"{peer}.json"

    def expected(self, peer: str) -> dict[str, Any]:
        """The same, read."""
        found: dict[str, Any] = json.loads(self.record(peer).read_text())
        return found

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
