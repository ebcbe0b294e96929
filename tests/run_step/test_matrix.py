"""Every golden case that can run gives the same under every isolation of this machine: status, output and layer.

What an isolation can't give is refused in words, and the table of refusals is here; where one may differ by its
row of the RUN-step table, that is here too. Recorded hosts are left aside: this is about the real one.
"""

import os
import shutil
import tempfile
from dataclasses import replace

import as_user
import crun_alone
import golden_cases
import pytest
from busybox_root import make_rootfs, why_not_run
from rows import row
from ways import EVERY, RemoteStep, isolations, prefix_of

from run_step import HostError, NamespaceOption, Resources

pytestmark = [pytest.mark.root, pytest.mark.slow]

PROBE = """
status=$?
echo "$PATH"; export PATH=/bin
id -u; id -g; pwd; echo "$HOME"; umask; ulimit -n; ulimit -c
env | grep -v -e ^HOSTNAME= -e ^_= -e ^PATH= | sort
cat /etc/hosts /etc/resolv.conf
[ -d /proc/1 ] && grep -E '^(Cap|NoNewPrivs)' /proc/self/status
mkdir -p -m 750 /tmp/made/deep; touch /tmp/made/file; ln /tmp/made/file /tmp/made/hard; ln -s nowhere /tmp/made/link
chmod 4711 /tmp/made/file; chown 7:8 /tmp/made/deep 2>/dev/null || echo not root; rm -rf /usr/bin
echo x > /dev/null; head -c 1 /dev/zero | wc -c
exit $status
"""

REFUSED = {
    "chroot in a container": {
        *(
            "volumes",
            "mounts",
            "run mounts",
            "network none",
            "namespaces",
            "shm size",
            "hostname",
            "seccomp",
            "mask",
        )
    },
}
"""What a case may need that a way to run refuses: in words, before anything runs."""

CRUN = {} if crun_alone.missing() else {"oci of crun": crun_alone.runtime, "rootless of crun": lambda: "crun"}
"""The steps of crun where cgroup version 2 is alone, as it wants: a path or name of the runtime for each."""

_CAPABILITIES = "a user namespace may have more of them than this machine gives to root"
DIFFERS = {
    "rootless": {"hostname": "S67 clears it", "all capabilities": _CAPABILITIES},
    "chroot as a user": {"all capabilities": _CAPABILITIES},
}
DIFFERS["rootless of crun"] = DIFFERS["rootless"]
"""Where the output may differ, by a row of the table."""


def needs(request):
    """What of the request not every isolation has."""
    found = {
        "volumes": request.volumes,
        "mounts": request.mounts,
        "run mounts": request.run_mounts,
        "network none": request.network == "none",
        "namespaces": [item for item in request.namespaces if not item.host],
        "shm size": request.shm_size,
        "hostname": request.hostname,
        "seccomp": request.seccomp not in ("", "unconfined") and not request.no_new_privileges,
        "mask": request.mask,
        "all capabilities": "all" in map(str.lower, request.cap_add),
    }
    return {name for name, value in found.items() if value}


def why_not(request):
    """What keeps a case from running anywhere here; empty when nothing does."""
    if request.network not in ("", "default", "host", "none"):
        return "its network is the recorded host's, or has tests of its own"
    if any(option.path for option in request.namespaces):
        return "it joins a namespace of the recorded host"
    if request.devices:
        return "its devices are the recorded host's"
    return ""


def runnable():
    out, left = [], []
    for case in golden_cases.CASES:
        wanted = golden_cases.requests(case)
        reasons = {why_not(request) for request in wanted} - {""}
        (left if reasons or not wanted else out).append((case, wanted))
    return out, [case.name for case, wanted in left if wanted]


RUNNABLE, LEFT = runnable()


def fit(request, path, skin):
    """The request with what this machine has in the place of what the recorded host had. Limits are for root alone, ID
    maps and the recorded hosts' labels and hooks have tests of their own."""
    resources = replace(request.resources, cpuset_cpus=request.resources.cpuset_cpus and "0")
    volumes = []
    for text in request.volumes:
        source, _, rest = text.partition(":")
        stand_in = f"{path}/host{source}"
        os.makedirs(stand_in, exist_ok=True)
        options = ",".join(
            word for word in rest.partition(":")[2].split(",") if "=" not in word and word not in "zZ"
        )
        volumes.append(f"{stand_in}:{rest.partition(':')[0]}" + (f":{options}" if options else ""))
    namespaces = {option.name: option for option in request.namespaces if option.name not in ("user", "pid")}
    if not request.hostname:
        namespaces["uts"] = NamespaceOption("uts", host=True)
    args = request.args
    if args[:2] == ("/bin/sh", "-c"):
        args = (*args[:2], args[2] + PROBE, *args[3:])
    return replace(
        request,
        args=args,
        runtime="",
        runtime_flags=(),
        uid_map=(),
        gid_map=(),
        volumes=tuple(volumes),
        mounts=tuple(text for text in request.mounts if text.startswith("type=tmpfs")),
        namespaces=tuple(namespaces.values()),
        network=request.network if request.network == "none" else "host",
        hooks_dirs=(),
        labels=(),
        apparmor="",
        terminal="without",
        resources=resources if skin in isolations() else Resources(),
    )


@pytest.fixture(scope="module")
def skins(module_host):
    """One process for each way to run a step, for all cases."""
    reason = why_not_run()
    if reason:
        pytest.skip(reason)
    top = tempfile.mkdtemp(prefix="matrix-")
    os.chmod(top, 0o755)
    made = {}
    for number, skin in enumerate((*EVERY, *CRUN)):
        work = f"{top}/work-{number}"
        os.mkdir(work)
        if "container" not in skin and skin not in (*isolations(), "oci of crun"):
            as_user.make_home(work)
        prefix = prefix_of(skin, f"{top}/user") if skin not in (*isolations(), "oci of crun") else []
        if skin in CRUN:
            prefix = [*crun_alone.PREFIX, *prefix]
        made[skin] = RemoteStep("/", skin.split("-")[0].split()[0], work, module_host, prefix)
        if skin.startswith("oci-"):
            made[skin].runtime = skin.partition("-")[2]
        if skin in CRUN:
            made[skin].runtime = CRUN[skin]()
    yield top, made
    for step in made.values():
        step.close()
    shutil.rmtree(top)


def outcome(step, skin, request, path):
    """Status, output and layer, or None with the reason why it was refused."""
    rootfs, pristine = f"{path}/rootfs", f"{path}/pristine"
    for place in (rootfs, pristine):
        make_rootfs(place)
        shutil.copytree(golden_cases.ROOTFS / "etc", f"{place}/etc", dirs_exist_ok=True)
    if skin in ("rootless", "rootless of crun", "chroot as a user"):
        as_user.give(path)
    request = replace(request, rootfs=rootfs, isolation=step.isolation, runtime=step.runtime)
    try:
        answer = step.ask(request, pristine=pristine)
    except HostError as error:
        return None, str(error)
    return (answer["result"]["status"], step.stdout, step.stderr, answer["layer"]), ""


@row("X83", "S80")
@pytest.mark.slow
@pytest.mark.parametrize(("case", "wanted"), RUNNABLE, ids=[case.name for case, _ in RUNNABLE])
def test_every_isolation_gives_the_same(skins, case, wanted):
    top, steps = skins
    for number, original in enumerate(wanted):
        results, refused = {}, {}
        for skin, step in steps.items():
            path = tempfile.mkdtemp(dir=top, prefix=f"{case.name}-")
            os.chmod(path, 0o755)
            request = fit(original, path, skin)
            result, why = outcome(step, skin, request, path)
            if result is None:
                refused[skin] = why
            elif not needs(request) & DIFFERS.get(skin, {}).keys():
                assert not needs(request) & REFUSED.get(skin, set()), f"{skin} took what it can't give"
                results[skin] = result
            shutil.rmtree(path)
        if not results:
            # A command that the image does not have: told by all of them, by its name.
            assert all(original.args[0].rsplit("/")[-1] in why for why in refused.values()), refused
            continue
        for skin, why in refused.items():
            assert needs(original) & REFUSED.get(skin, set()), f"{skin}: {why}"
        first, *others = results
        for skin in others:
            bare = "container" in skin
            assert without_proc(results[skin], bare) == without_proc(results[first], bare), (
                f"RUN {number}: {skin} differs from {first}"
            )


def without_proc(result, bare):
    """With chroot alone there is no /proc to read from."""
    status, out, err, layer = result
    lines = [line for line in out.splitlines() if not (bare and line.startswith((b"Cap", b"NoNewPrivs")))]
    return status, lines, err, layer


def test_what_is_left_out_is_known():
    """A new case that can't run is looked at, and not passed over."""
    assert [
        *("row-device", "row-device-cdi", "row-device-directory"),  # the recorded host's devices
        "row-device-rootless",
        "row-namespaces-path",  # its namespaces
        *("row-network-bridge", "row-network-pasta", "row-network-private-cni", "row-network-private-old"),
        *("row-network-resolved", "row-networks-named"),  # networks have tests of their own
        "row-rootless-relative-path",
    ] == LEFT
