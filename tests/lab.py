"""A machine of the tests' own: a network namespace to build in, whose uplink leads to another one with servers.

Nothing of it is in this machine's namespace, and nothing leads out of it. The builder's side has a mount namespace as
well, with its own /etc/resolv.conf and an empty /etc/cni/net.d.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run_step.linux.children import die_with_parent
from run_step.network.model import STATE

sys.path.append(str(Path(__file__).parent / "run_step"))
from busybox_root import make_rootfs

WEB4, WEB6 = "203.0.113.80", "2001:db8:80::80"
DNS4, DNS6 = "203.0.113.53", "2001:db8:80::53"
"""Behind the router: they know the builder's machine alone, so a step is answered only when its address is
translated."""

HOST4, HOST6 = "198.51.100.2", "2001:db8:1::2"
ROUTER4, ROUTER6 = "198.51.100.1", "2001:db8:1::1"
NAME = "web.corp.test"

_WEB = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"peer={self.client_address[0]} path={self.path} host={self.headers['Host']}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
server = Server((sys.argv[1], int(sys.argv[2])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


_FETCH = """\
#!/bin/sh
# fetch HOST[:PORT] PATH: HOST is looked up by the C library, as a static busybox can't
name=${1%%:*}
address=$(getent "ahosts${family:-}" "$name" | sed -n '1s/ .*//p')
[ -n "$address" ] || { echo "no address of $name"; exit 6; }
port=${1#"$name"}; port=${port#:}
# Its input stays open: half a connection closed is what an old pasta does not get right.
fifo=/tmp/fetch.$$; mkfifo "$fifo"; exec 3<>"$fifo"; rm "$fifo"
printf 'GET /%s HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' "$2" "$1" >&3
timeout 20 nc -w 10 "$address" "${port:-80}" <&3 | sed '1,/^.$/d'
"""


def make_fetching_rootfs(path: str) -> str:
    """A root filesystem of busybox with getent(1), a C library that looks names up, and the script ``fetch``."""
    root = make_rootfs(path)
    program = shutil.which("getent") or "/usr/bin/getent"
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for source in [program, *re.findall(r"(/\S+) \(0x", listed)]:
        target = os.path.join(root, "bin/getent" if source == program else source.lstrip("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(source, target)
    with open(os.path.join(root, "bin/fetch"), "w", encoding="utf-8") as stream:
        stream.write(_FETCH)
        os.fchmod(stream.fileno(), 0o755)
    return root


class Lab:
    """``run`` runs a command on the builder's machine, and ``prefix`` is what goes before its words."""

    def __init__(self, directory: Path, *, ipv6: bool = True, dns: bool = True) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._processes: list[subprocess.Popen[str]] = []
        try:
            self._make(directory, ipv6, dns)
        except BaseException:
            self.close()
            raise

    def _make(self, directory: Path, ipv6: bool, dns: bool) -> None:
        outside = self._start(["unshare", "--net", "sh", "-c", "echo up; exec sleep infinity"])
        inside = self._start(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", "echo up; exec sleep infinity"]
        )  # fmt: skip
        self.pid, self.outside_pid = inside.pid, outside.pid
        self.outside = ["nsenter", f"--net=/proc/{outside.pid}/ns/net", "--"]
        self.prefix = [
            "nsenter",
            f"--net=/proc/{inside.pid}/ns/net",
            f"--mount=/proc/{inside.pid}/ns/mnt",
            "--",
        ]
        self.resolv = directory / "resolv.conf"
        self.resolv.write_text(f"nameserver {DNS4}\n")
        self.cni = directory / "net.d"
        self.cni.mkdir()
        for path in (directory, self.cni):
            path.chmod(0o755)
        self.run("mount", "--bind", self.resolv, os.path.realpath("/etc/resolv.conf"))
        os.makedirs("/etc/cni/net.d", exist_ok=True)
        self.run("mount", "--bind", self.cni, "/etc/cni/net.d")
        self._batch(
            self.outside,
            f"link add up0 type veth peer name eth0 netns {inside.pid}",
            "link set lo up",
            "link set up0 up",
            *(f"addr add {address}/24 dev up0" for address in (ROUTER4,)),
            *(f"addr add {address}/32 dev lo" for address in (WEB4, DNS4)),
            *(f"addr add {address}/64 dev up0 nodad" for address in (ROUTER6,)),
            *(f"addr add {address}/128 dev lo" for address in (WEB6, DNS6)),
        )
        own = [f"addr add {HOST6}/64 dev eth0 nodad", f"route add default via {ROUTER6}"] if ipv6 else []
        self._batch(
            self.prefix,
            *("link set lo up", "link set eth0 up", f"addr add {HOST4}/24 dev eth0"),
            *(f"route add default via {ROUTER4}", *own),
        )
        self.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")  # a new namespace has the machine's
        self.serve("::", 80, outside=True)
        if dns:
            self._dns()

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        """A process that goes with us, once it has printed a line."""
        made = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls prctl(2) alone
        )
        self._processes.append(made)
        assert made.stdout is not None
        assert made.stdout.readline(), f"{command} did not start"
        return made

    def _dns(self) -> None:
        program = shutil.which("dnsmasq") or "/usr/sbin/dnsmasq"
        words = [
            *(
                program,
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
                "--pid-file=",
            ),
            *("--user=root", "--log-facility=-", "--bind-interfaces", f"--listen-address={DNS4},{DNS6}"),
            *(f"--host-record={NAME},{WEB4},{WEB6}", "--local=/test/"),
        ]
        made = subprocess.Popen(
            [*self.outside, *words],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls prctl(2) alone
        )
        self._processes.append(made)
        assert made.stderr is not None
        assert any("started, version" in line for line in made.stderr), "dnsmasq did not start"

    @staticmethod
    def _batch(prefix: list[str], *lines: str) -> None:
        subprocess.run([*prefix, "ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)

    def serve(self, address: str, port: int = 0, *, outside: bool = False) -> int:
        """A web server that says who asks, on the builder's machine or ``outside``; its port."""
        made = subprocess.Popen(
            [*(self.outside if outside else self.prefix), sys.executable, "-c", _WEB, address, str(port)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls prctl(2) alone
        )
        self._processes.append(made)
        assert made.stdout is not None
        return int(made.stdout.readline())

    def run(self, *words: Any, check: bool = True) -> str:
        """What a command on the builder's machine printed."""
        done = subprocess.run(
            [*self.prefix, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, (words, done.stderr)
        return done.stdout

    @property
    def state(self) -> Path:
        """Where the bridge of this machine keeps its leases."""
        code = "from run_step.network.bridge import _state; print(_state())"
        environment = [f"PYTHONPATH={Path(__file__).parent.parent / 'plugins'}"]
        return Path(self.run("env", *environment, sys.executable, "-c", code).strip())

    def setting(self, name: str) -> str:
        """A value below /proc/sys/net."""
        return self.run("cat", f"/proc/sys/net/{name}").strip()

    def left(self) -> dict[str, Any]:
        """What a machine has that the bridge might have made: devices, tables, leases, settings."""
        links = [line.split(":")[1].strip() for line in self.run("ip", "-o", "link").splitlines()]
        state = self.state
        leases = sorted(os.listdir(state)) if state.is_dir() else []
        return {
            "links": sorted(name.partition("@")[0] for name in links),
            "tables": self.run("nft", "list", "tables").split("\n")[:-1],
            "leases": [name for name in leases if name not in ("lock", "last")],
            "forward": (self.setting("ipv4/ip_forward"), self.setting("ipv6/conf/all/forwarding")),
        }

    def close(self) -> None:
        """Its namespaces go with the processes that hold them."""
        if len(self._processes) > 1:
            state = self.state if self._processes[1].poll() is None else None
            if state is not None and state.parent == Path(STATE):
                shutil.rmtree(state, ignore_errors=True)
        for process in reversed(self._processes):
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


PRISTINE = {"links": ["eth0", "lo"], "tables": [], "leases": [], "forward": ("0", "0")}
"""What :meth:`Lab.left` says before anything was built, and when nothing remains."""


@contextmanager
def lab(directory: Path, **options: bool) -> Iterator[Lab]:
    """A machine for as long as the context."""
    made = Lab(directory, **options)
    try:
        yield made
    finally:
        made.close()
