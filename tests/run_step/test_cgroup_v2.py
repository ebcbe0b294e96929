"""Rows X38 and S71 on cgroup version 2 alone: a mount namespace that has nothing else, where crun works as well."""

import json
import os
import subprocess
import sys

import pytest
from busybox_root import why_not_run
from crun_alone import PREFIX, filters, missing, runtime
from rows import row
from watching import groups

SCRIPT = """
import json, sys
from run_step import LocalExecutor, RunRequest
from run_step.host_probe import probe_runtimes
rootfs, work, name, crun = sys.argv[1:]
executor = LocalExecutor(work_dir=work)
facts = executor.host(runtimes=True)
probed = probe_runtimes(every=True)
out = {"cgroup": facts.cgroup, "runtimes": {item.name: item.works for item in probed}}
out["why"] = "; ".join(item.why for item in probed)
line = "(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done) & wait; cat /proc/self/cgroup; exit 3"
working = [name for name, works in out["runtimes"].items() if works and name != "crun"]
for isolation, runtime in [("chroot", ""), *(("oci", one) for one in (*working, crun) if one)]:
    request = RunRequest(
        ("/bin/sh", "-c", line), rootfs, isolation=isolation, runtime=runtime, container_id=name
    )
    text = []
    result = executor.execute(executor.plan(request), rootfs, output=lambda _, data: text.append(data.decode()))
    group = [row for row in "".join(text).splitlines() if row.startswith("0::")][0]
    out[runtime or isolation] = {"status": result.status, "group": group, **result.usage()}
executor.close()
print(json.dumps(out))
"""


@row("X38")
@pytest.mark.root
def test_on_version_2_alone(rootfs, tmp_path):
    reason = why_not_run()
    if reason:
        pytest.skip(reason)
    (tmp_path / "work").mkdir()
    name = os.urandom(32).hex()
    crun = "" if missing() else runtime()
    command = [sys.executable, "-c", SCRIPT, rootfs, str(tmp_path / "work"), name, crun]
    done = subprocess.run(
        [*PREFIX, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["cgroup"] == "v2"
    ways = ["chroot", *(name for name, works in seen["runtimes"].items() if works and name != "crun")]
    if crun:
        # One that can't keep a step from the host's devices is told not to work.
        assert seen["runtimes"]["crun"] is filters()
        assert filters() or "RLIM_MEMLOCK" in seen["why"]
        assert seen[crun]["group"] != "0::/"
        ways.append(crun)
    for way in ways:
        assert seen[way]["status"] == 3
        assert seen[way]["measured"] == "cgroup", way
        assert seen[way]["user_us"] + seen[way]["system_us"] > 0
        assert "buildfront-" in seen[way]["group"]
    assert os.listdir(tmp_path / "work") == []
    assert groups(f"buildfront-{name[:12]}") == []
