"""RUN --mount as BuildKit does it: each case of testdata/mounts, against the record of BuildKit's outcome.

What differs on purpose is in the case's case.toml, with its reason. ``make oracle`` compares the records with BuildKit.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import as_user
import pytest
from mount_cases import NAMES, REASONS, Case, agents, changed, lay, make_base, make_other
from program import BUILDFRONT
from rows import row

ALL = bool(os.environ.get("ORACLE_TABLE"))
"""``make oracle``: every case under every isolation. Else each under chroot, and those below where they say something
that the others do not: what mounts are to an OCI runtime, and whose files they have in a user namespace."""
OCI = (
    r"bind-(owners-modes|rw|scratch|stage-rw|user|workdir)|over-.*|on-link-(absolute|dangling|file|loop|parent)"
    r"|nested|nested-(cache|link|missing-.*|tmpfs)|same-target-(link|types)|several|target-system"
    r"|point-(busy|made|made-umask)|cache|cache-(owner|readonly)|tmpfs|tmpfs-(over-directory|readonly|user)"
    r"|exec-form|program-rights|secret|secret-(noexec|on-.*|owner|user)|ssh|ssh-(owner|user)"
)
ROOTLESS = (
    r"bind-(owners-modes|rw|user)|on-link-absolute|nested-missing-rw|several|point-made-umask|cache-(from|owner)"
    r"|tmpfs-over-directory|secret-owner|ssh-user"
)
USERS_CHROOT = r"bind-rw|several|ssh-user"
MATRIX = [
    (name, who, isolation)
    for name in NAMES
    for who, isolation, chosen in (
        ("root", "chroot", r".*"),
        ("root", "oci", OCI),
        ("user", "rootless", ROOTLESS),
        ("user", "chroot", USERS_CHROOT),
    )
    if ALL or re.fullmatch(chosen, name)
]


class Builder:
    """A place of its own for the builds of a case, and a copy of a store that has the images; of root, or a user."""

    def __init__(self, images: Path, place: Path, who: str) -> None:
        self.images = images
        self.place = place
        self.prefix = as_user.words(str(place)) if who == "user" else []
        self.store = place / "store"
        shutil.copytree(images / "store", self.store, symlinks=True)
        if who == "user":
            as_user.make_home(str(place))
            as_user.give(str(self.store))

    def __call__(self, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **environ}
        for name in ("BUILDFRONT_ISOLATION", "BUILDFRONT_ROOT", "SSH_AUTH_SOCK"):
            env.pop(name, None)
        command = [*self.prefix, BUILDFRONT, "--root", str(self.store), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd="/")

    def build(self, case: Case, isolation: str, *more: object) -> tuple[dict[str, Any], str]:
        """All builds of a case; the outcome of the last as in a record, and what it said."""
        out = self.place / "out.tar"
        done = None
        with agents(case, self.place) as sockets:
            for build in case.builds:
                context, flags, environ = lay(case, build, self.place)
                if self.prefix:
                    for path in (context, *sockets, *self.place.glob("secret-*")):
                        as_user.give(str(path))
                words = ["build", "--isolation", isolation, "--network", "none", "--progress", "plain"]
                done = self(*words, "-o", f"type=tar,dest={out}", *flags, *more, context, **environ)
                if build is not case.settings:
                    assert (done.returncode != 0) == build["fails"], done.stderr
        assert done is not None
        if done.returncode != 0:
            return {"status": "failed", "files": []}, done.stderr
        return {"status": "ok", "files": changed(out, self.images / "box.tar")}, done.stderr


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base images, and a store that has them."""
    path = tmp_path_factory.mktemp("images")
    make_base(path / "box.tar")
    make_other(path / "other.tar")
    for name in ("box", "other"):
        command = [BUILDFRONT, "--root", str(path / "store"), "import", str(path / f"{name}.tar"), "-t", name]
        subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody can reach; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="mounts-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def rows(outcome: dict[str, Any]) -> list[str]:
    """Text of an outcome: a line for each file, and for each line in it."""
    out = []
    for item in outcome["files"]:
        out.append(" ".join(f"{key}={item[key]}" for key in sorted(item) if key != "lines"))
        out += [f"{item['path']}: {line!r}" for line in item.get("lines", ())]
    return out


def compare(case: Case, found: dict[str, Any], said: str) -> None:
    """The outcome is the record's, and an error says what it is about."""
    wanted = case.expected()
    assert found["status"] == wanted["status"], said
    shown = list(difflib.unified_diff(rows(wanted), rows(found), "BuildKit", "ours", lineterm="", n=0))
    assert not shown, "\n".join(shown)
    if wanted["status"] == "failed":
        assert re.search(case.settings["says"], said), said


@row("X68")
@pytest.mark.parametrize(("name", "who", "isolation"), MATRIX, ids=map("-".join, MATRIX))
def test_as_buildkit(images: Path, place: Path, name: str, who: str, isolation: str) -> None:
    case = Case.load(name)
    compare(case, *Builder(images, place, who).build(case, isolation))


def test_a_named_context_is_mounted_as_the_context(images: Path, place: Path) -> None:
    """The BuildKit of the records knows none, so the same Dockerfile asks for the same files by a name."""
    case = Case.load("bind-source-directory")
    text = (case.path / "Dockerfile").read_text()
    assert text.count("type=bind,") == 6
    dockerfile = place / "Dockerfile"
    dockerfile.write_text(text.replace("type=bind,", "type=bind,from=more,"))
    more = case.path / "context"
    found = Builder(images, place, "root").build(
        case, "chroot", "-f", dockerfile, "--build-context", f"more={more}"
    )
    compare(case, *found)


def test_each_difference_is_one_and_each_reason_has_one() -> None:
    used = set()
    for name in NAMES:
        case = Case.load(name)
        assert case.expected()["status"] == "ok" or case.settings["says"]
        used |= {difference["why"] for difference in case.settings.get("differences", ())}
    assert used == set(REASONS)
