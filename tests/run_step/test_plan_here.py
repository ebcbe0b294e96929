"""plan() takes what probe() gives; plan_here() does what is done before it, too."""

import json
from dataclasses import replace

import pytest

from run_step import (
    HostError,
    LocalExecutor,
    RequestError,
    RunRequest,
    choose_isolation,
    decide,
    look_up,
    plan,
    plan_here,
    probe,
)


@pytest.mark.root
def test_plan_takes_what_probe_gives(rootfs):
    """``auto`` and no isolation at all are what the facts allow; nothing has to be done before."""
    facts = probe()
    for isolation in ("auto", ""):
        request = RunRequest(("/bin/true",), rootfs, isolation=isolation)
        made = plan(request, facts)
        assert made.isolation == choose_isolation("auto", facts)[0]
        assert made == plan_here(request, facts) == plan_here(request)


def test_plan_takes_auto_and_tells_what_is_lost(ask, host):
    facts = replace(host, runtimes=(), has_mounts=False)
    made = plan(ask(isolation="auto"), facts)
    assert made.isolation == "chroot"
    assert [text for text in made.warnings if "nothing can be mounted here" in text]
    user = replace(host, uid=1000, gid=1000, subuids=(), subgids=())
    choice = decide(user).isolation
    assert plan(ask(isolation="auto", network="host"), user).warnings[: bool(choice.note)] == (
        (choice.note,) if choice.note else ()
    )


@pytest.mark.root
def test_plan_here_looks_up_what_the_request_names(rootfs, tmp_path):
    source, hooks = tmp_path / "source", tmp_path / "hooks"
    source.mkdir()
    hooks.mkdir()
    hook = {
        "version": "1.0.0",
        "hook": {"path": "/bin/true"},
        "when": {"always": True},
        "stages": ["prestart"],
    }
    (hooks / "always.json").write_text(json.dumps(hook))
    request = RunRequest(
        ("/bin/true",),
        rootfs,
        isolation="oci",
        runtime="runc",
        network="host",
        volumes=(f"{source}:/volume",),
        devices=("/dev/full",),
        hooks_dirs=(str(hooks),),
    )
    facts = probe(runtimes=False)
    with pytest.raises((RequestError, HostError)):
        plan(request, facts)  # pure: it knows of none of them
    made = plan_here(request, facts)
    assert made == plan(request, look_up(request, facts))
    executor = LocalExecutor()
    assert executor.plan(request) == made
    executor.close()
    assert "/volume" in made.destinations
    assert made.spec["hooks"]["prestart"]


def test_a_request_that_names_nothing_needs_no_look_up(ask, host):
    assert look_up(ask(), host) is host
    assert look_up(ask(volumes=("/tmp:/volume",)), host) is not host


def test_what_auto_becomes_counts_when_looking_up(ask, host):
    """Chroot needs no runtime that knows rro; which is asked only where one will be used."""
    none = replace(host, runtimes=())
    found = look_up(ask(isolation="auto", volumes=("/tmp:/volume",)), none)
    assert found.has_rro is False
    assert plan(ask(isolation="auto", volumes=("/tmp:/volume:ro",)), found).isolation == "chroot"
