"""What a build costs here, beside what the same costs with buildah where that is installed.

Prints milliseconds (the median of several runs) and ratios, all from one run on one machine. Needs root.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BUILDFRONT = str(Path(sys.executable).parent / "buildfront")


def median(action: Callable[[], object], times: int) -> float:
    """Milliseconds."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        spent.append((time.perf_counter() - began) * 1000)
    return statistics.median(spent)


def command(*words: str, env: dict[str, str] | None = None) -> Callable[[], object]:
    """Something that runs it and fails loudly."""

    def run() -> None:
        done = subprocess.run(words, env=env, capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(words)}: {done.stderr.decode()}")

    return run


def base_tar(work: Path) -> Path:
    """A root filesystem of Debian's busybox-static."""
    busybox = shutil.which("busybox") or sys.exit("busybox is missing: make system")
    path = work / "base.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in ("sh", "echo", "cat", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return path


def context(work: Path, name: str, lines: list[str]) -> str:
    """A build context with a Dockerfile."""
    directory = work / name
    directory.mkdir()
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    (directory / "file").write_text("content\n")
    return str(directory)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        env = {**os.environ, "BUILDFRONT_ROOT": str(work / "store")}
        tar = base_tar(work)
        command(BUILDFRONT, "import", str(tar), "-t", "base", env=env)()
        cached = context(
            work, "cached", ["FROM base", "COPY file /file", *(f"RUN echo {n}" for n in range(19))]
        )
        echo = context(work, "echo", ["FROM base", *(f"RUN echo {n}" for n in range(20))])

        python = median(command(sys.executable, "-c", "pass"), 21)
        build = (BUILDFRONT, "build", "--isolation", "chroot", "-t", "cached", cached)
        for _ in range(3):
            command(*build, env=env)()
            time.sleep(0.2)  # a note is only left of files that have been at rest for a moment
        noted = median(command(*build, env=env), 21)
        walked = median(command(*build, "--jobs", "2", env=env), 21)
        print(f"python -c pass                           {python:8.1f} ms")
        print(
            f"cached build of 20 steps, from its note  {noted:8.1f} ms  {noted / python:5.1f} x python -c pass"
        )
        print(
            f"the same, every step looked up           {walked:8.1f} ms  {walked / python:5.1f} x python -c pass"
        )

        rows = []
        for isolation in ("chroot", "oci"):
            if isolation == "oci" and shutil.which("runc") is None:
                continue
            words = (BUILDFRONT, "build", "--no-cache", "--isolation", isolation, "-t", "echo", echo)
            rows.append((f"20 x RUN echo, {isolation}", median(command(*words, env=env), 5)))
        if shutil.which("buildah"):
            options = ("--root", str(work / "b"), "--runroot", str(work / "r"), "--storage-driver", "overlay")
            made = subprocess.run(
                ("buildah", *options, "from", "scratch"), capture_output=True, text=True, check=True
            )
            name = made.stdout.strip()
            command("buildah", *options, "add", name, str(tar), "/")()
            command("buildah", *options, "commit", name, "localhost/base")()
            words = (
                "buildah",
                *options,
                "build",
                "--no-cache",
                "--layers",
                "--isolation",
                "chroot",
                "--pull-never",
            )
            rows.append(("20 x RUN echo, buildah chroot", median(command(*words, "-t", "echo", echo), 3)))
        first = rows[0][1]
        for title, spent in rows:
            each = (spent - walked) / 20
            print(f"{title:40} {spent:8.1f} ms  {spent / first:5.1f} x  {each:5.1f} ms a step")


if __name__ == "__main__":
    main()
