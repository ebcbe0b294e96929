"""The examples do what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def _rootfs(path: Path) -> Path:
    (path / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", path / "bin" / "busybox")
    for name in ("sh", "cat", "id", "mkdir", "chmod"):
        (path / "bin" / name).symlink_to("busybox")
    return path


def test_the_other_frontend_runs_its_steps_with_the_plugin_alone(tmp_path: Path) -> None:
    rootfs = _rootfs(tmp_path / "rootfs")
    program = EXAMPLES / "other_frontend" / "frontend.py"
    steps = EXAMPLES / "other_frontend" / "steps.toml"
    code = f"import sys, runpy; sys.argv = ['x', {str(steps)!r}, {str(rootfs)!r}]\n"
    code += f"try: runpy.run_path({str(program)!r}, run_name='__main__')\n"
    code += "finally: sys.stderr.write('LOADED ' + ' '.join(m for m in sys.modules if m.startswith('buildfront')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hello from 0\ngood evening from 1000\n"
    assert done.stderr.rstrip().endswith("LOADED"), "the example must need nothing of the frontend"
    assert (rootfs / "srv" / "user.txt").stat().st_uid == 1000
    assert not (rootfs / "proc").exists(), "mount points that were made for the step stayed"


def test_the_other_frontend_is_about_fifty_lines() -> None:
    lines = (EXAMPLES / "other_frontend" / "frontend.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


def test_the_other_frontend_passes_the_status_on(tmp_path: Path) -> None:
    rootfs = _rootfs(tmp_path / "rootfs")
    steps = tmp_path / "steps.toml"
    steps.write_text('[[step]]\nrun = "exit 7"\n\n[[step]]\nrun = "echo never > /never"\n')
    program = EXAMPLES / "other_frontend" / "frontend.py"
    command = [sys.executable, str(program), str(steps), str(rootfs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert not (rootfs / "never").exists()


def test_the_quickstart_builds_and_its_image_runs() -> None:
    buildfront = Path(sys.executable).parent / "buildfront"
    command = ["sh", str(EXAMPLES / "quickstart" / "run"), str(buildfront)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the image's greet, run from its files:\nhello, world\n")
    assert "hello, builder" in done.stderr
