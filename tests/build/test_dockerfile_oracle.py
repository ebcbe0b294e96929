"""Every case of testdata/oracle is built as the newest BuildKit builds it, but for the differences in DECIDED."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import ForkServer
from oracle_case import Base, Server, base_of, differences, failure, names, printed, result_of
from program import PROJECT, locked

BASE = "127.0.0.1:5000/bb:latest"
"""The name of the base image in the cases. It is in the store, so there is no registry."""

DECIDED: dict[str, str] = {
    "223-from-stage-from-case": "stage-case",
    "698-run-hardlink-old": "hardlinks",
    "733-mount-bind-from-number": "stage-number",
    "778-mount-ssh-none": "ssh-absent",
}
"""Cases whose result differs on purpose, with the name of the row in docs/differences.md that says why."""


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    served = Server()
    yield served
    served.close()


@pytest.fixture(scope="session")
def base_tar() -> Path:
    """The root filesystem of the base image."""
    with locked("oracle-base.tar") as path:
        if not path.exists():
            new = path.with_suffix(".new")
            busybox = shutil.which("busybox")
            assert busybox
            subprocess.run(
                [sys.executable, PROJECT / "tools" / "make_oracle_base.py", busybox, new], check=True
            )
            os.rename(new, path)
    return path


@pytest.fixture(scope="session")
def store(program: ForkServer, base_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the base image."""
    path = tmp_path_factory.mktemp("oracle") / "store"
    done = program.run(["import", str(base_tar), "-t", BASE], env=environment(path))
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="session")
def base(program: ForkServer, store: Path) -> Base:
    archive = store.parent / "base.tar"
    dockerfile = store.parent / "Dockerfile"
    dockerfile.write_text(f"FROM {BASE}\n")
    command = ["build", "-f", str(dockerfile), "-o", f"type=oci,dest={archive}", str(store.parent)]
    done = program.run(command, env=environment(store), cwd=store.parent)
    assert done.returncode == 0, done.stderr
    return base_of(archive)


def environment(store: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(store.parent), "BUILDFRONT_ROOT": str(store)}


@pytest.mark.parametrize("name", names())
def test_a_case_is_built_as_buildkit_builds_it(
    name: str, program: ForkServer, server: Server, store: Path, base: Base, tmp_path: Path
) -> None:
    case = server.case(name, tmp_path / "case")
    archive = tmp_path / "out.tar"
    command = ["build", "--isolation", "chroot", "--no-cache", "--progress", "rawjson"]
    command += ["--build-context", f"base=docker-image://{BASE}", "-o", f"type=oci,dest={archive}"]
    done = program.run([*command, *case.arguments()], env=environment(store), cwd=tmp_path)
    output = done.stderr + done.stdout
    assert b"Traceback" not in output, output.decode()
    result = result_of(archive, base) if done.returncode == 0 else failure(output)
    if case.toml.get("output"):
        result["output"] = printed(output)
    found = differences(case, result)
    if name in DECIDED:
        assert found, "it does not differ any more: remove it from DECIDED"
    else:
        assert not found, "\n".join([*found, output.decode("utf-8", "replace")[-2000:]])


def test_each_difference_is_written_down() -> None:
    page = (PROJECT / "docs" / "differences.md").read_text()
    assert set(DECIDED) <= set(names())
    for row in DECIDED.values():
        assert f"| `{row}` |" in page
