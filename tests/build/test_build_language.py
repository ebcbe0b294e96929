"""Real builds of what RUN and ONBUILD may say: scripts in here-documents, security, devices, more images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mount_builds import WAYS, Way

SCRIPTS = """FROM box
RUN <<EOF
echo plain $((1 + 1)) > /plain
EOF
RUN <<SCRIPT
#!/bin/sh -e
echo "$0"; wc -l < /dev/pipes/SCRIPT; case $- in *e*) echo strict;; esac
{ echo changed > /dev/pipes/SCRIPT; } 2> /tmp/said || rm /tmp/said
touch /dev/pipes/new 2> /dev/null || echo closed
SCRIPT
USER bob
RUN cat <<ONE - > /tmp/both && <<'SCRIPT' cat
1
ONE
3 $HOME
SCRIPT
RUN <<BOB
#!/bin/sh
id -u; stat -c '%a %u' /dev/pipes/BOB
BOB
"""


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_script_runs_in_every_way_and_leaves_nothing(way: Way, place_of) -> None:
    place = place_of(way)
    context = place.context(SCRIPTS)
    printed = [lines for lines in place.printed("--no-cache", context).values() if lines]
    assert printed == [["/dev/pipes/SCRIPT", "4", "strict", "closed"], ["3 $HOME"], ["1000", "755 0"]]
    layers = place.layers(context)
    assert [name for layer in layers[1:] for name in layer if "dev" in name] == []
    assert layers[1] == ["plain"] and place.left() == []


def test_a_script_is_in_the_key(box) -> None:
    def text(word: str) -> str:
        return f"FROM box\nRUN <<EOF\n#!/bin/sh\necho {word} > /a\nEOF\n"

    assert (box.files(box.context(text("one"))) / "a").read_text() == "one\n"
    assert (box.files(box.context(text("two"))) / "a").read_text() == "two\n"
    assert box.ran(box.context(text("one"))) == []


STATUS = "RUN --security=insecure grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status\n"


@pytest.mark.parametrize("way", [Way("chroot"), Way("oci", "runc")], ids=str)
def test_an_insecure_step_has_every_capability_and_no_filter(way: Way, place_of) -> None:
    place = place_of(way)
    ours = Path("/proc/self/status").read_text().split("CapBnd:\t")[1].split("\n")[0]
    context = place.context("FROM box\n" + STATUS + STATUS.replace("insecure", "sandbox"))
    printed = list(place.printed("--allow", "security.insecure", context).values())
    insecure, sandbox = (dict(line.split(":\t") for line in lines) for lines in printed[-2:])
    assert insecure == {"CapEff": ours, "CapBnd": ours, "Seccomp": "0"}
    assert sandbox["Seccomp"] == "2" and int(sandbox["CapBnd"], 16) & 1 << 21 == 0  # SYS_ADMIN


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("RUN --security=insecure true", "--allow security.insecure"),
        ("RUN --network=host true", "--allow network.host"),
        ("RUN --device=vendor.com/gpu=0,required true", "--allow device=vendor.com/gpu=0"),
    ],
)
def test_what_a_dockerfile_may_not_do_by_itself(box, line, what) -> None:
    done = box.build(box.context(f"FROM box\nRUN touch first\n{line}\n"), check=False)
    assert done.returncode == 1 and what in done.stderr and "Dockerfile:3" in done.stderr
    assert "#1" not in done.stderr  # nothing has run


def test_a_host_network_that_the_caller_asks_for_needs_no_leave(box) -> None:
    context = box.context("FROM box\nRUN --network=host echo said\n")
    assert "said" in box.build(context, "--isolation", "chroot", "--network", "host").stderr


def test_devices_have_to_be_there_and_allowed(box, tmp_path) -> None:
    devices = [{"name": "0", "containerEdits": {"env": ["GPU=zero"]}}]
    spec = {"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "devices": devices}
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "v.json").write_text(json.dumps(spec))
    known = ("--no-cache", "--isolation", "chroot", "--cdi-spec-dir", tmp_path / "cdi")
    for more in ("", ",required"):
        context = box.context(
            f"FROM box\nRUN --device=vendor.com/gpu=0{more} echo gpu=$GPU.\nRUN echo next=$GPU.\n"
        )
        done = box.build(context, *known, "--allow", "device=vendor.com/gpu=0")
        assert "gpu=zero." in done.stderr and "next=." in done.stderr
        refused = box.build(context, *known, check=False)
        assert "RUN --device=vendor.com/gpu=0 is not allowed" in refused.stderr
    missing = box.build(box.context("FROM box\nRUN --device=vendor.com/gpu=1 echo gpu=$GPU.\n"), *known)
    assert "gpu=." in missing.stderr and "the step goes on without a device" in missing.stderr


@pytest.mark.parametrize("name", ["/dev/kmsg", "/dev/kmsg:/dev/x", "kmsg"])
def test_a_path_is_no_device_that_a_dockerfile_can_name(box, name) -> None:
    context = box.context(f"FROM box\nRUN --device={name},required true\n")
    done = box.build(context, "--isolation", "chroot", "--allow", "device", check=False)
    assert done.returncode == 1 and "vendor.com/class=device" in done.stderr and "Dockerfile:2" in done.stderr


def test_triggers_may_read_images_and_stages_that_no_other_line_reads(box) -> None:
    box.build(box.context("FROM box\nRUN echo other > /f\n"), "-t", "other")
    deeper = "FROM other\nONBUILD RUN --mount=from=other,target=/m cat /m/f > /deep\n"
    box.build(box.context(deeper), "-t", "deeper")
    parent = """FROM box
ONBUILD COPY --from=other /f /copied
ONBUILD RUN --mount=from=other,target=/m cat /m/f > /mounted
ONBUILD COPY --from=mine /deep /staged
ONBUILD COPY <<EOF /document
text $HOME
EOF
ONBUILD ENV done=yes
"""
    box.build(box.context(parent), "-t", "parent")
    assert len(box.config("parent")["config"]["OnBuild"]) == 5
    child = box.context("FROM deeper AS mine\nFROM parent\nRUN echo last $done > /last\n")
    out = box.files(child, "-t", "child")
    for name in ("copied", "mounted", "staged"):
        assert (out / name).read_text() == "other\n"
    assert (out / "document").read_text() == "text \n"
    assert (out / "last").read_text() == "last yes\n"
    assert "OnBuild" not in box.config("child")["config"]


def test_a_workdir_has_a_layer_even_where_the_directory_exists(box) -> None:
    text = "FROM box\nWORKDIR /data\nWORKDIR /data/new\nWORKDIR /\n"
    box.build(box.context(text), "-t", "app")
    history = box.config("app")["history"][-3:]
    lines = [(line["created_by"], line.get("empty_layer", False)) for line in history]
    assert lines == [("WORKDIR /data", False), ("WORKDIR /data/new", False), ("WORKDIR /", True)]
    assert box.ran(box.context(text)) == []


def test_a_directory_is_a_root_filesystem(box, tmp_path) -> None:
    files = tmp_path / "files"
    (files / "d").mkdir(parents=True)
    (files / "d" / "f").write_text("x\n")
    text = "FROM files AS one\nFROM one\nCOPY --from=files d/f /g\n"
    out = box.files(box.context(text), "--build-context", f"files={files}")
    assert sorted(path.name for path in out.iterdir()) == ["d", "g"] and (out / "d/f").read_text() == "x\n"


def test_a_build_argument_gives_the_hostname(box) -> None:
    context = box.context("FROM box\nRUN hostname\n")
    done = box.build(context, "--isolation", "chroot", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=sandbox")
    assert "sandbox\n" in done.stderr
    own = ("--hostname", "mine", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=sandbox")
    assert "mine\n" in box.build(context, "--isolation", "chroot", *own).stderr


def test_an_image_has_the_time_that_is_asked_for(box) -> None:
    context = box.context("FROM box\nENV a=b\nWORKDIR /new/deep\nCOPY Dockerfile /\nCMD c\n")
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1000000000")
    out = box.files(context, "-t", "app", *epoch)
    assert [(out / name).stat().st_mtime for name in ("new", "new/deep")] == [1000000000, 1000000000]
    image = box.config("app")
    assert image["created"] == "2001-09-09T01:46:40Z"
    assert {line["created"] for line in image["history"][-4:]} == {"2001-09-09T01:46:40Z"}


def test_a_misspelt_stage_is_proposed(box) -> None:
    context = box.context("FROM box AS build\nFROM box\nCOPY --from=biuld /x /y\n")
    done = box.build(context, "--pull=never", check=False)
    assert "did you mean the stage build?" in done.stderr and "Dockerfile:3" in done.stderr
