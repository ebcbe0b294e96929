"""Row S77: slirp4netns connects a step of an ordinary user, and its end is told."""

import os
import signal
import socket
import threading

import pytest
from busybox_root import marker, processes
from watching import until

from run_step import HostError, RunRequest, execute, plan

pytestmark = pytest.mark.root


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def step(confined_step):
    return confined_step


def helpers(step):
    """The processes of slirp4netns that write into the work directory of ``step``."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/comm", encoding="utf-8") as comm:
                if comm.read().strip() == "slirp4netns" and step.work_dir in os.readlink(
                    f"/proc/{name}/fd/1"
                ):
                    found.append(int(name))
        except OSError:
            pass  # no process, or one that has just ended
    return found


def test_S77_a_step_is_connected(step):
    text = step.text("cat /proc/net/dev /proc/net/route; ls /proc/self/fd", network="slirp4netns")
    assert "tap0:" in text and "0202000A" in text  # the gateway 10.0.2.2
    assert [line for line in text.splitlines() if line.isdigit()] == ["0", "1", "2", "3"]


def test_S77_its_own_resolver_comes_first(step):
    words = step.text("cat /etc/resolv.conf", network="slirp4netns").split()
    assert words[words.index("nameserver") + 1] == "10.0.2.3"


def test_S77_the_hosts_loopback_is_out_of_reach(step):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        line = f"for a in 10.0.2.2 127.0.0.1; do nc -w 2 $a {port} </dev/null && echo reached; done; echo end"
        assert step.text(line, network="slirp4netns") == "end\n"


def test_S77_the_end_of_the_helper_ends_the_step(step):
    nap = marker()
    killer = threading.Thread(target=lambda: until(lambda: processes(nap)) and kill(helpers(step)))
    killer.start()
    with pytest.raises(HostError, match="the step's network ended before the step did"):
        step.run(f"sleep {nap}", network="slirp4netns", timeout=30)
    killer.join()
    assert processes(nap) == []


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_S77_nothing_of_it_remains(step):
    assert step.run("exit 3", network="slirp4netns").status == 3
    step.run("sleep 60", network="slirp4netns", timeout=0.5)
    assert helpers(step) == []
    assert os.listdir(step.work_dir) == []


def test_S77_a_missing_helper_is_told(rootfs, host, monkeypatch):
    request = RunRequest(("/bin/true",), rootfs, isolation="chroot", network="slirp4netns")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="slirp4netns was not found on PATH"):
        execute(plan(request, host), rootfs)
