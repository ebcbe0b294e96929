"""RUN --mount=type=secret: where and whose a secret is, and that its bytes stay in memory alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
from mount_builds import AS_USER, CHROOT, WAYS, Way, traces
from mount_builds import told as on_command_lines
from rows import row

from run_step import RequestError, parse_secret
from run_step.inputs import LARGEST


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sums(name: str) -> str:
    """A command that says of a file all but its content."""
    return f"stat -c '%a %u:%g %F' {name}; busybox sha256sum < {name}"


PLACES = f"""\
FROM box
WORKDIR /work
RUN --mount=type=secret,id=file {sums("/run/secrets/file")}
RUN --mount=type=secret,id=VARIABLE {sums("/run/secrets/VARIABLE")}
RUN --mount=type=secret,id=alone.txt {sums("/run/secrets/alone.txt")}
RUN --mount=type=secret,id=renamed {sums("/run/secrets/renamed")}
RUN --mount=type=secret,id=empty {sums("/run/secrets/empty")}
RUN --mount=type=secret,id=large busybox sha256sum < /run/secrets/large
RUN --mount=type=secret,id=file,target=/not/there/yet,mode=0640,uid=1000,gid=10 {sums("/not/there/yet")}
RUN --mount=type=secret,id=file,dst=relative,mode=777,uid=65534 {sums("/work/relative")}
RUN --mount=type=secret,target=/data/file {sums("/data/file")}; cat /data/kept
RUN --mount=type=secret,id=renamed,target=/etc/group,mode=444 {sums("/etc/group")}
RUN --mount=type=secret,id=file,env=TOKEN ls /run/secrets; printf %s "$TOKEN" | busybox sha256sum
RUN --mount=type=secret,env=VARIABLE printf %s "$VARIABLE" | busybox sha256sum
RUN --mount=type=secret,id=renamed,env=PATH_TO,target=/x printf %s "$PATH_TO" | busybox sha256sum; {sums("/x")}
RUN --mount=type=secret,id=file --mount=type=secret,id=renamed,env=HOME --mount=type=secret,id=VARIABLE,required \
    ls /run/secrets; printf %s "$HOME" | busybox sha256sum
RUN --mount=type=secret,id=nobody --mount=type=secret,id=none,env=NONE,required=false ls /run/secrets; echo "[$NONE]"
RUN --mount=type=secret,id=file ! echo x > /run/secrets/file && ! rm /run/secrets/file && ! chmod 777 /run/secrets/file
RUN ls /run /not /x /work /data; env | grep -c -e TOKEN -e VARIABLE; wc -l < /etc/group
USER bob
RUN --mount=type=secret,id=file,uid=1000 cat /run/secrets/file && id -u
RUN --mount=type=secret,id=file ! cat /run/secrets/file
RUN --mount=type=secret,id=file,gid=1000,mode=040 cat /run/secrets/file
"""


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_secret_is_where_and_whose_the_mount_says_and_gone_after_it(place_of, way) -> None:
    place = place_of(way)
    data = {
        "file": b"from a file\nof two lines\n",
        "VARIABLE": b"from the environment",
        "alone.txt": b"a file by its id",
        "renamed": "ünïcode from another variable".encode(),
        "empty": b"",
        "large": os.urandom(LARGEST),
    }
    for name in ("file", "alone.txt", "empty", "large"):
        (place.outside / name).write_bytes(data[name])
    flags = [
        "--secret",
        "id=VARIABLE",
        "--secret",
        "id=alone.txt",
        "--secret",
        "type=env,id=renamed,env=OTHER",
    ]
    flags += ["--secret", "id=file,src=file", "--secret", f"id=empty,source={place.outside}/empty"]
    flags += ["--secret", "type=file,id=large,src=large"]
    environ = {"VARIABLE": data["VARIABLE"].decode(), "OTHER": data["renamed"].decode()}
    printed = place.printed(*flags, place.context(PLACES), **environ)

    def is_there(name: str, status: str) -> list[str]:
        return [f"{status} regular {'' if data[name] else 'empty '}file", f"{digest(data[name])}  -"]

    steps = [lines for title, lines in printed.items() if title.startswith("RUN")]
    assert steps[:6] == [
        *(is_there(name, "400 0:0") for name in ("file", "VARIABLE", "alone.txt", "renamed", "empty")),
        is_there("large", "400 0:0")[1:],
    ]
    assert steps[6:10] == [
        is_there("file", "640 1000:10"),
        is_there("file", "777 65534:0"),
        [*is_there("file", "400 0:0"), "kept"],
        is_there("renamed", "444 0:0"),
    ]
    missing = "ls: /run/secrets: No such file or directory"
    assert steps[10:15] == [
        [missing, f"{digest(data['file'])}  -"],
        [f"{digest(data['VARIABLE'])}  -"],
        [f"{digest(data['renamed'])}  -", *is_there("renamed", "400 0:0")],
        ["VARIABLE", "file", f"{digest(data['renamed'])}  -"],
        [missing, "[]"],
    ]
    # Of two streams the lines come in any order.
    assert {"kept", "0", "3", "/run:", "/work:", "/data:"} <= set(steps[16])
    assert {"ls: /not: No such file or directory", "ls: /x: No such file or directory"} <= set(steps[16])
    assert not {"secrets", "relative", "file"} & set(steps[16])
    assert steps[17] == ["***", "1000"] and "cat: can't open" in steps[18][0] and steps[19] == ["***"]
    assert place.left() == []


SCRIPT = """\
set -e
cat /run/secrets/tok; echo; echo "$TOK"; echo "$TOK" >&2; echo "a${TOK}b"
cat /lines; echo "$LINES_OF_IT" >&2; sed -n 2p /lines; echo $(cat /lines)
i=0; while [ $i -lt ${#TOK} ]; do printf %s "${TOK:$i:1}"; i=$((i+1)); sleep 0.001; done; echo
printf %s "${TOK:0:9}"; sleep 0.05; printf %s "${TOK:9:9}"; sleep 0.05; echo "${TOK:18}"
[ "$TOK" = "$(cat /run/secrets/tok)" ] && [ "$(echo "$LINES_OF_IT")" = "$(cat /lines)" ]
echo "${#TOK} bytes, $(wc -l < /lines) lines" > /made/counts; cat /made/counts
echo its output ends here; printf %s "${TOK:0:12}" >&2
: > /c/started
until [ -e /c/go ]; do sleep 0.05; done
[ "$END" != failure ]
"""
"""A step that has secrets as files and as variables, prints them in every way that there is, and waits."""
LEAKS = """\
FROM box AS made
RUN mkdir /made
FROM made
ARG END
RUN --mount=type=bind,source=script,target=/script --mount=type=cache,id=$END,target=/c \\
    --mount=type=secret,id=tok --mount=type=secret,id=lines,target=/lines,mode=444 \\
    --mount=type=secret,id=tok,env=TOK --mount=type=secret,id=lines,env=LINES_OF_IT sh /script
RUN echo after
"""
ENDS = {"success": "rawjson", "failure": "auto", "INT": "plain", "KILL": "plain", "timeout": "rawjson"}
"""How the step ends, and how the progress is shown meanwhile."""
LIMITED = (CHROOT, Way("oci", "runc"), Way("rootless", "runc", user=True))
"""Where a time limit is tried, which has to be long enough for a step on a busy machine."""


def test_the_look_for_traces_finds_them(tmp_path) -> None:
    """Otherwise the next tests would prove nothing."""
    import io
    import tarfile

    import zstandard

    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("name"), io.BytesIO())
        item = tarfile.TarInfo("file")
        item.size = 6
        tar.addfile(item, io.BytesIO(b"secret"))
    (tmp_path / "plain").write_bytes(b"xxsecretxx")
    (tmp_path / "gzip").write_bytes(gzip.compress(inner.getvalue()))
    (tmp_path / "zstd").write_bytes(zstandard.compress(inner.getvalue()))
    with tarfile.open(tmp_path / "nested", "w") as tar:
        tar.add(tmp_path / "zstd", "blob")
    (tmp_path / "link").symlink_to("a secret")
    (tmp_path / "the secret").mkdir()
    (tmp_path / "nothing").write_bytes(b"secre")
    found = {os.path.basename(path) for path in traces([b"secret"], tmp_path)}
    assert found == {"plain", "gzip", "zstd", "nested", "link", "the secret"}


@row("X68")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_secret_leaves_no_trace_however_the_build_ends(place_of, way) -> None:
    """Builds at once in one store, each with another end, looked through while all of their steps wait and when
    the last one is over."""
    place = place_of(way)
    token = f"token-{os.urandom(12).hex()}"
    lines = [f"line-{os.urandom(9).hex()}" for _ in range(3)]
    wanted = [text.encode() for text in (token, *lines)]
    secrets = place.path.parent / "secrets"
    secrets.mkdir()
    (secrets / "lines").write_text("\n".join(lines) + "\n")
    context = place.context(LEAKS, script=SCRIPT)
    place.build("--target", "made", context)
    results = ["-t", "app", "--metadata-file", place.path / "metadata.json"]
    for kind in ("local", "tar", "oci", "docker"):
        results += ["-o", f"type={kind},dest={place.path}/out-{kind}"]
    more = {
        "success": [*results, "--compression", "gzip" if way.user else "zstd"],
        "timeout": ["--timeout", "6"],
    }
    flags = ["--secret", "id=tok,env=TOKEN", "--secret", f"id=lines,src={secrets}/lines"]
    builds = {}
    for end, progress in ENDS.items():
        if end == "timeout":
            if way not in LIMITED:
                continue
            for other, build in builds.items():  # these need no time of the one that has a limit
                place.wait_file(build, other, "started")
        words = place.building(
            "--build-arg", f"END={end}", *flags, *more.get(end, ()), context, progress=progress
        )
        builds[end] = place.start(*words, TOKEN=token)
    for end, build in builds.items():
        place.wait_file(build, end, "started")
    looked = (place.path, Path("/run"), Path("/dev/shm"))
    assert traces(wanted, *looked) == []
    assert on_command_lines(wanted) == []
    assert [end for end, build in builds.items() if build.poll() is not None and end != "timeout"] == []
    builds["INT"].send_signal(signal.SIGINT)
    builds["KILL"].send_signal(signal.SIGKILL)
    for end in ("success", "failure"):
        (place.cache(end) / "go").touch()
    said = {end: build.communicate(timeout=100) for end, build in builds.items()}
    status = {end: build.returncode for end, build in builds.items()}
    assert status.pop("timeout", 1) > 0
    assert status == {"success": 0, "failure": 1, "INT": 130, "KILL": -signal.SIGKILL}, said
    assert traces(wanted, *looked) == []
    for end, texts in said.items():
        out = "".join(texts)
        assert not [word for word in wanted if word.decode() in out], (end, out)
        assert end == "KILL" or ("a***b" in out and f"{len(token)} bytes, 3 lines" in out), (end, out)
    assert way not in LIMITED or "took longer than its time limit" in said["timeout"][1]
    tail = said["failure"][1].split("the step's last output:")[1]
    assert "a***b" in tail and "its output ends here" in tail
    shown = place.run("inspect", "app").stdout
    assert "sh /script" in shown and not [word for word in wanted if word.decode() in shown]
    assert json.loads((place.path / "metadata.json").read_text())["image.name"]
    assert (place.path / "out-local/made/counts").read_text() == f"{len(token)} bytes, 3 lines\n"
    # What the killed build left is taken away by the next one, which has no secret and needs none.
    assert "CACHED" in place.build("--build-arg", "END=success", context).stderr
    place.build(place.context("FROM box\nRUN echo more\n"))
    assert place.left() == []
    assert traces(wanted, *looked) == []


def test_a_secret_is_masked_on_a_terminal(place_of) -> None:
    place = place_of(CHROOT)
    context = place.context(
        "FROM box\nRUN --mount=type=secret,id=tok for i in 1 2 3; do cat /run/secrets/tok; echo; sleep 0.1; done\n"
        "RUN --mount=type=secret,id=tok cat /run/secrets/tok; exit 3\n"
    )
    (place.outside / "tok").write_text("tell-nobody-of-it")
    controller, terminal = pty.openpty()
    command = place.words("build", "--secret", "id=tok,src=tok", context)
    environ = {**place.environ, "TERM": "xterm"}
    child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environ)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(controller, 4096)
        except OSError:
            break
    os.close(controller)
    assert child.wait() == 3
    assert b"***" in shown and b"\x1b[" in shown and b"tell-nobody" not in shown


def test_what_is_cached_does_not_depend_on_what_is_secret(place_of) -> None:
    place = place_of(CHROOT)
    context = place.context(
        "FROM box\nRUN --mount=type=secret,id=tok,required test -s /run/secrets/tok\n"
        "RUN --mount=type=secret,id=tok,env=TOK echo ${#TOK} > /size\n"
    )
    first = place.build("--secret", "id=tok,env=TOK", context, TOK="one-value")
    assert first.stderr.count("DONE") == 2
    again = place.build("--secret", "id=tok,env=TOK", context, TOK="another-value")
    assert "DONE" not in again.stderr and again.stdout == first.stdout
    assert "DONE" not in place.build(context).stderr  # none is needed for what is known
    other = place.build("--no-cache", "--secret", "id=tok,env=TOK", context, TOK="another-value")
    assert other.stderr.count("DONE") == 2 and other.stdout != first.stdout


def test_a_secret_is_not_swapped_out(place_of) -> None:
    """Where the kernel can promise it (Linux 6.4), and to root of the machine alone."""
    place = place_of(CHROOT)
    context = place.context("FROM box\nRUN --mount=type=secret,id=t grep secrets/t /proc/self/mountinfo\n")
    shown = place.build("--secret", "id=t,env=TOK", context, TOK="some-value").stderr
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    assert " - tmpfs tmpfs " in shown and (",noswap" in shown) == (release >= (6, 4))


@pytest.mark.parametrize("way", AS_USER, ids=str)
def test_an_owner_that_an_ordinary_user_has_not_is_told(place_of, way) -> None:
    place = place_of(way)
    context = place.context("FROM box\nRUN --mount=type=secret,id=t,uid=900000 true\n")
    done = place.build("--secret", "id=t,env=TOK", context, check=False, TOK="some-value")
    assert done.returncode == 1
    assert "uid=900000 of a secret mount does not exist in the step's user namespace" in done.stderr


def test_a_required_secret_is_missed_before_any_step_runs(place_of) -> None:
    place = place_of(CHROOT)
    context = place.context(
        "FROM box AS one\nRUN echo first > /first\nFROM box\nRUN echo second\nCOPY --from=one /first /\n"
        "RUN --mount=type=secret,id=wanted,required=true true\n"
    )
    done = place.run(*place.building(context, progress="rawjson"), check=False)
    assert done.returncode == 1
    assert "the secret 'wanted' is required by RUN --mount, and was not given" in done.stderr
    assert "--secret id=wanted,src=FILE" in done.stderr and "Dockerfile:6\n" in done.stderr
    events = [json.loads(line)["event"] for line in done.stderr.splitlines() if line.startswith("{")]
    assert "graph" in events and "start" not in events


UNUSABLE = [
    (
        ["id=a,src=missing"],
        "secret 'id=a,src=missing': the file missing can't be read: No such file or directory",
    ),
    (["id=a,src=."], "the file . can't be read: Is a directory"),
    (["id=a,env=MISSING"], "secret 'id=a,env=MISSING': the environment has no variable MISSING"),
    (["id=a"], "secret 'id=a': the file a can't be read: No such file or directory"),
    (["id=a,type=env"], "the environment has no variable a"),
    (["id=a,src=large"], "it has more than 512000 bytes, and can't be a secret"),
    (["id=a,env=TOK", "id=b,env=TOK", "id=a,env=TOK"], "the id 'a' is given twice"),
]


@pytest.mark.parametrize(("flags", "words"), UNUSABLE, ids=[str(row[0]) for row in UNUSABLE])
def test_a_secret_that_cannot_be_had_is_told(place_of, flags, words) -> None:
    place = place_of(CHROOT)
    (place.outside / "large").write_bytes(b"not-to-be-told" * (LARGEST // 14 + 1))
    context = place.context("FROM box\nRUN true\n")
    given = [word for flag in flags for word in ("--secret", flag)]
    done = place.build(*given, context, check=False, TOK="not-to-be-told")
    assert done.returncode == 2 and words in done.stderr
    assert "not-to-be-told" not in done.stderr and "RUN" not in done.stderr


BAD_VALUES = [
    (b"\xff\xfe\xfdnot-to-be-told", "not text, and can't be the variable TOK"),
    (b"not-to-be-told\0", "not text, and can't be the variable TOK"),
]


@pytest.mark.parametrize(("data", "words"), BAD_VALUES, ids=["no UTF-8", "a null byte"])
def test_a_secret_that_can_be_no_variable_is_told(place_of, data, words) -> None:
    place = place_of(CHROOT)
    (place.outside / "tok").write_bytes(data)
    context = place.context("FROM box\nRUN --mount=type=secret,id=tok,env=TOK true\n")
    done = place.build("--secret", "id=tok,src=tok", context, check=False)
    assert done.returncode == 1 and words in done.stderr
    assert "not-to-be-told" not in done.stderr and "Dockerfile:2\n" in done.stderr


MALFORMED = [
    ("", "the form is id=ID"),
    ("id", "the form is id=ID"),
    ("id=", "the form is id=ID"),
    ("id=a,src=", "the form is id=ID"),
    ("a", "the form is id=ID"),
    ("id=a,", "the form is id=ID"),
    ("id=a,mode=0400", "the form is id=ID"),
    ("id=a,src", "the form is id=ID"),
    ("src=/etc/hostname", "id=ID is missing"),
    ("env=HOME", "id=ID is missing"),
    ("id=a,id=b", "id is given twice"),
    ("id=a,src=/x,source=/y", "src is given twice"),
    ("id=a,type=socket", "type=socket: known are file, env"),
    ("id=a,src=/x,env=HOME", "not from both"),
    ("id=a,type=file,env=HOME", "not from both"),
]


@pytest.mark.parametrize(("text", "words"), MALFORMED)
def test_a_malformed_secret_is_told_with_its_text(text, words) -> None:
    with pytest.raises(RequestError, match=re.escape(words)) as caught:
        parse_secret(text, {"HOME": "/not-to-be-told"})
    assert repr(text) in str(caught.value) and "not-to-be-told" not in str(caught.value)


BAD_MOUNTS = [
    ("id=a,mode=9", "mode=9: an octal mode is wanted"),
    ("id=a,uid=bob", "uid=bob: a number is wanted"),
    ("id=a,gid=-1", "gid=-1: a number is wanted"),
    ("id=a,required=perhaps", "required=perhaps is neither true nor false"),
    ("id=a,env=1X", "env='1X' of a secret is not the name of a variable"),
    ("id=a,env=", "env is empty"),
    ("", "id=ID is missing"),
    ("id=a,target=/", "the target is the root directory"),
    ("id=a,source", "needs a value"),
    ("id", "id needs a value"),
]


@pytest.mark.parametrize(("text", "words"), BAD_MOUNTS, ids=[row[0] or "nothing" for row in BAD_MOUNTS])
def test_a_malformed_mount_of_a_secret_is_told_with_its_place(place_of, text, words) -> None:
    place = place_of(CHROOT)
    context = place.context(f"FROM box\nRUN --mount=type=secret,{text} true\n".replace("secret, ", "secret "))
    done = place.build("--secret", "id=a,env=TOK", context, check=False, TOK="not-to-be-told")
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert "Dockerfile:2" in done.stderr and "not-to-be-told" not in done.stderr
