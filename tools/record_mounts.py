"""What BuildKit makes of the cases of testdata/mounts: ``make oracle`` compares it with the records.

With ``--write`` the records are written anew; the changes are reviewed like code. Names of cases choose some of them.
It needs Debian's docker.io. The daemon is started here, with directories, mounts and a network of its own, and is
gone with all of it in every outcome.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mount_cases import NAMES, Case, agents, changed, lay, make_base, make_other

WAIT = 60.0
"""Seconds for the daemon to be there, and to be gone."""
NOISE = (
    (
        re.compile(
            r"^(failed to solve( with frontend [\w.]+)?|rpc error|code|failed to create LLB definition): "
        ),
        "",
    ),
    (re.compile(r"^(code|desc) = \w+ desc = "), ""),
    (re.compile(r"/[^ \"]*/(executor|buildkit-mount|overlay2|buildkit|vfs)[^ \":]*"), "DIRECTORY"),
    (re.compile(r"\b[a-z0-9]{25}\b"), "ID"),
    (re.compile(r"failed to do request: .*"), "failed to do request"),
)
"""What an error says of the machine and of the programs that it came through."""


def client() -> str:
    """The docker that is of one package with dockerd; there may be others."""
    daemon = shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if daemon is None:
        raise SystemExit("dockerd is missing: sh tools/system-packages oracle")
    wanted = _version(daemon)
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        program = shutil.which("docker", path=directory)
        if program and _version(program) == wanted:
            return program
    raise SystemExit(f"there is no docker of the version of dockerd, {wanted}")


def _version(program: str) -> str:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return shown.partition("version ")[2].partition(",")[0]


@contextmanager
def daemon(place: Path) -> Iterator[dict[str, str]]:
    """A dockerd in ``place``; the environment of its clients."""
    host = f"unix://{place}/docker.sock"
    command = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--net", "--propagation", "private"]
    command += ["dockerd", "--host", host]
    command += ["--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none"]
    command += ["--data-root", str(place / "data"), "--exec-root", str(place / "exec")]
    command += ["--pidfile", str(place / "pid"), "--cgroup-parent", place.name]
    environ = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    with open(place / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)
    try:
        ends = time.monotonic() + WAIT
        while not (place / "docker.sock").exists():
            if server.poll() is not None or time.monotonic() > ends:
                raise SystemExit(f"dockerd did not start:\n{(place / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        (place / "config").mkdir()
        own = {"DOCKER_HOST": host, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(place / "config")}
        yield {**environ, **own}
    finally:
        server.terminate()
        try:
            server.wait(WAIT)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)  # containerd dies with it
            server.wait()
        for group in sorted(Path("/sys/fs/cgroup").glob(f"**/{place.name}/**/"), reverse=True):
            with suppress(OSError):
                group.rmdir()


class Recorder:
    """Builds the cases with one daemon."""

    def __init__(self, place: Path, environ: dict[str, str]) -> None:
        self.place = place
        self.environ = environ
        self.program = client()
        self.base = place / "box.tar"
        make_base(self.base)
        make_other(place / "other.tar")
        for name in ("box", "other"):
            self("import", place / f"{name}.tar", f"{name}:latest")

    def __call__(self, *words: object, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.program, *map(str, words)],
            env={**self.environ, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if "Is the docker daemon running" in done.stderr:
            raise SystemExit(f"dockerd is gone:\n{(self.place / 'log').read_text()[-4000:]}")
        if check and done.returncode != 0:
            raise SystemExit(f"docker {words[0]}: {done.stderr}")
        return done

    def record(self, case: Case) -> dict[str, Any]:
        """The outcome of the last build of a case, with nothing in the cache but what the ones before left there."""
        self("builder", "prune", "--all", "--force")
        place = Path(tempfile.mkdtemp(dir=self.place))
        out = place / "out.tar"
        with agents(case, place):
            for build in case.builds:
                context, flags, environ = lay(case, build, place)
                output = f"type=tar,dest={out}"
                words = [
                    "build",
                    "--network",
                    "none",
                    "--progress",
                    "plain",
                    "--output",
                    output,
                    *flags,
                    context,
                ]
                done = self(*words, check=False, **environ)
                if build is not case.settings and (done.returncode != 0) != build["fails"]:
                    raise SystemExit(f"{case.name}: the build before it: {done.stderr}")
        if done.returncode != 0:
            return {"status": "failed", "error": error(done.stderr), "files": []}
        return {"status": "ok", "files": changed(out, self.base)}


def error(said: str) -> str:
    """The last line of an error, without what changes from run to run."""
    text = said.strip().splitlines()[-1]
    for pattern, instead in NOISE:
        while text != (text := pattern.sub(instead, text)):
            pass
    return text


def dump(record: dict[str, Any]) -> str:
    """A record as it is kept: a line for each file, and for each line of a text."""
    rows = []
    for item in record["files"]:
        head = {key: value for key, value in item.items() if key != "lines"}
        row = json.dumps(head)
        if "lines" in item:
            lines = ",\n".join(f"      {json.dumps(line)}" for line in item["lines"])
            row = f'{row[:-1]}, "lines": [\n{lines}\n    ]}}'
        rows.append(f"    {row}")
    top = "".join(f'  "{key}": {json.dumps(record[key])},\n' for key in ("status", "error") if key in record)
    files = "[\n" + ",\n".join(rows) + "\n  ]" if rows else "[]"
    return f'{{\n{top}  "files": {files}\n}}\n'


def main() -> int:
    """Record, or compare and say what differs."""
    parser = argparse.ArgumentParser(description="compare the records of testdata/mounts with BuildKit")
    parser.add_argument("--write", action="store_true", help="write the records anew")
    parser.add_argument("names", nargs="*", metavar="CASE", help="only these")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="record-mounts-"))
    place.chmod(0o755)
    differing = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with daemon(place) as environ:
            recorder = Recorder(place, environ)
            for name in options.names or NAMES:
                case = Case.load(name)
                text = dump(recorder.record(case))
                if case.record.exists() and case.record.read_text() == text:
                    continue
                differing.append(name)
                if options.write:
                    case.record.write_text(text)
                else:
                    sys.stdout.write(f"{name}: BuildKit makes this of it now:\n{text}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    done = "written anew" if options.write else "not as recorded"
    sys.stdout.write(f"{len(options.names or NAMES)} cases, {len(differing)} {done}: {' '.join(differing)}\n")
    return 1 if differing and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
