"""A small root filesystem, recorded host facts, and the isolations that can be tried on this machine."""

import pytest
from busybox_root import HOST_HOSTS, HOST_RESOLV, make_rootfs, why_not_run

from run_step import HostFacts, ImageDefaults, LocalExecutor, RunRequest, look_up, plan
from run_step.host import RuntimeFact
from run_step.isolation.oci import RUNTIMES, find, try_runtime
from run_step.linux.process import CAPABILITIES


@pytest.fixture
def rootfs(tmp_path):
    return make_rootfs(str(tmp_path / "rootfs"))


@pytest.fixture
def host():
    """Facts of a host that does not exist: a plan made from them is the same everywhere."""
    return HostFacts(
        capabilities=tuple(CAPABILITIES),
        runtimes=(RuntimeFact("runc", "/usr/sbin/runc", True),),
        hosts=HOST_HOSTS,
        resolv_conf=HOST_RESOLV,
        proxy=("http_proxy=http://proxy.example:3128", "NO_PROXY=localhost"),
    )


def isolations():
    """``chroot``, and ``oci`` once for each runtime that works here; with none the skipped ``oci`` is shown."""
    paths = {name: find(name) for name in RUNTIMES} if not why_not_run() else {}
    working = [f"oci-{name}" for name, path in paths.items() if path and not try_runtime(path)]
    skipped = pytest.param("oci-runc", marks=pytest.mark.skip(reason="no OCI runtime works here"))
    return ["chroot", *(working or [skipped])]


class Step:
    """Runs commands in one root filesystem under one isolation and keeps what they printed."""

    def __init__(self, rootfs, isolation, work_dir, host):
        self.rootfs = rootfs
        self.isolation, _, self.runtime = isolation.partition("-")
        self.work_dir = work_dir
        self.executor = LocalExecutor(host, work_dir)
        self.stdout = b""
        self.stderr = b""

    def request(self, *args, **fields):
        return RunRequest(args, self.rootfs, isolation=self.isolation, runtime=self.runtime, **fields)

    def plan(self, *args, **fields):
        request = self.request(*args, **fields)
        return plan(request, look_up(request, self.executor.host(runtimes=False)))

    def run(self, *args, cancel=None, timeout=60, output=None, **fields):
        """Run a command; a single argument is a line for the shell."""
        command = args if len(args) > 1 else ("/bin/sh", "-c", *args)
        plan = self.plan(*command, **fields)
        chunks = {"stdout": [], "stderr": []}

        def keep(stream, data):
            chunks[stream].append(data)

        try:
            return self.executor.execute(
                plan, self.rootfs, output=output or keep, cancel=cancel, timeout=timeout
            )
        finally:
            self.stdout, self.stderr = (b"".join(chunks[name]) for name in ("stdout", "stderr"))

    def text(self, *args, **fields):
        """What a command printed on stdout; it has to succeed."""
        result = self.run(*args, **fields)
        assert result.status == 0, (result, self.stdout[-500:], self.stderr[-500:])
        return self.stdout.decode()


@pytest.fixture(params=isolations())
def step(request, rootfs, tmp_path, host):
    reason = why_not_run()
    if reason:
        pytest.skip(reason)
    work = tmp_path / "work"
    work.mkdir()
    made = Step(rootfs, request.param, str(work), host)
    yield made
    made.executor.close()


@pytest.fixture
def ask(rootfs):
    """A request for the root filesystem; the image's defaults are given as ``image_env`` and so on."""

    def make(*args, **fields):
        image = {key[6:]: fields.pop(key) for key in list(fields) if key.startswith("image_")}
        fields.setdefault("isolation", "oci")
        return RunRequest(args or ("/bin/true",), rootfs, image=ImageDefaults(**image), **fields)

    return make
