"""What comes from outside as JSON, YAML or text: whatever it is, there is a plan or an error in words, soon and in
little memory."""

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter, OrderedDict, namedtuple
from pathlib import Path

import pytest
from busybox_root import make_rootfs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import row
from ways import made_up_host

from run_step import (
    HostError,
    HostFacts,
    RequestError,
    RunRequest,
    RunStepError,
    look_up,
    parse_secret,
    plan,
    security_options,
)
from run_step import documents as d
from run_step.host import TextFile
from run_step.validation import validate

SEEDS = sorted((Path(__file__).parents[2] / "testdata/fuzz/request").glob("*.json"))
DEEP = "[" * 100_000 + "]" * 100_000
MEMORY = 400 << 20
"""Of address space, most of which an interpreter with jsonschema has anyway."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_rootfs(str(tmp_path_factory.mktemp("documents") / "rootfs"))


# The reader


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", "nonsense", "\0", "1e", '"\\ud8"', "9" * 5000, b"\xff", b"\xff\xfe{\0"]
)
def test_what_is_no_JSON(text):
    with pytest.raises(ValueError):
        d.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        (DEEP, "deeper than 100"),
        ("[" * 101 + "]" * 101, "deeper than 100"),
        ('{"a":' * 200 + "1" + "}" * 200, "deeper than 100"),
        ("[" * 100_000, "deeper than 100"),
        (b"\xff", "not UTF-8"),
        (" " * (17 << 20), "larger than"),
    ],
)
def test_what_JSON_is_refused_and_why(text, why):
    with pytest.raises(ValueError, match=why):
        d.parse(text)


def test_a_key_that_is_there_twice():
    assert d.parse('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="the key 'a' twice"):
        d.parse('{"b": {"a": 1, "a": 2}}', strict=True)


def test_as_deep_as_allowed():
    text = "[" * 100 + "]" * 100
    assert d.parse(text) == json.loads(text)
    assert d.parse(b'\xef\xbb\xbf{"a": "\\u00e4"}') == {"a": "ä"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON)
def test_JSON_is_read_as_it_was_written(value):
    assert d.parse(json.dumps(value), strict=True) == value
    assert d.parse(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")) == value


@given(st.text() | st.binary())
def test_anything_is_a_value_or_a_ValueError(text):
    try:
        d.parse(text)
    except ValueError as error:
        assert len(str(error)) < 1000


@given(JSON)
def test_what_is_told_of_a_value_is_short(value):
    assert 0 < len(d.short(value)) < 250


def test_a_container_of_any_class_is_short():
    pair = namedtuple("pair", "left right")
    for value, text in (
        (OrderedDict(a=1), "an object"),
        (Counter("ab"), "an object"),
        (pair(1, 2), "a list"),
    ):
        assert d.short(value) == text


def laughs(kind, levels=30):
    lines = ["a0: &a0 [x, x, x]" if kind != "merge" else "a0: &a0 {x: 1, y: 2}"]
    for number in range(1, levels):
        items = ", ".join([f"*a{number - 1}"] * 9)
        value = {"list": f"[{items}]", "map": f"{{k: [{items}]}}", "merge": f"{{<<: [{items}]}}"}[kind]
        lines.append(f"a{number}: &a{number} {value}")
    return "\n".join(lines)


BOMBS = {
    "list": laughs("list"),
    "map": laughs("map"),
    "merge": laughs("merge"),
    "itself": "a: &a [*a]",
    "itself by a key": "a: &a {b: {c: *a}}",
    "deep": "[" * 50_000,
    "deep blocks": "\n".join(" " * number + "a:" for number in range(700)),
    "large": "a: " + "x" * (2 << 20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_YAML_that_grows(name):
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"larger than|deeper than|more than|Circular"):
        d.parse_yaml(BOMBS[name])
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "? [a]: b",
        "!!python/object:os.system x",
        "a: .nan",
        "a: !!binary aGk=",
        "a: 2020-01-01",
        "\0",
        "--- a\n--- b",
    ],
)
def test_YAML_that_JSON_can_not_hold(text):
    with pytest.raises(ValueError) as caught:
        d.parse_yaml(text)
    assert len(str(caught.value)) < 1000


def test_YAML_with_aliases():
    text = "a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2}\n"
    assert d.parse_yaml(text) == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}], "c": {"x": 1, "y": 2}}
    assert d.parse_yaml("") is None


@given(st.text(alphabet="ab&*[]{}:,-<>!|?\n \"'#%@\t1.", max_size=60))
def test_any_YAML_is_a_value_or_a_ValueError(text):
    try:
        d.parse_yaml(text)
    except ValueError:
        pass


# Files


def test_a_pipe_without_a_writer_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert d.read(str(tmp_path / "pipe"), 100) == b""
    with pytest.raises(OSError, match="not a regular file"):
        d.read(str(tmp_path / "pipe"), 100, regular=True)


def test_a_pipe_with_a_writer_is_read_to_its_end():
    reader, writer = os.pipe()
    writing = subprocess.Popen(["sh", "-c", "echo a; sleep 0.2; echo b"], stdout=writer)
    os.close(writer)
    assert d.read(f"/proc/self/fd/{reader}", 100) == b"a\nb\n"
    os.close(reader)
    writing.wait()


def test_what_has_no_end_is_too_large():
    with pytest.raises(d.TooLarge, match="larger than 1000 bytes"):
        d.read("/dev/zero", 1000)
    with pytest.raises(OSError, match="not a regular file"):
        d.read("/dev/zero", 1000, regular=True)


def test_as_large_as_allowed(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 1000)
    assert len(d.read(str(tmp_path / "file"), 1000)) == 1000
    with pytest.raises(d.TooLarge):
        d.read(str(tmp_path / "file"), 999)


@pytest.fixture(params=["pipe", "device", "large", "directory", "bytes", "deep", "dangling"])
def odd_file(request, tmp_path):
    """Makes a file at a path that no reader should come to grief over."""

    def make(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = request.param
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "large":
            with open(path, "wb") as stream:
                stream.truncate(1 << 33)
        elif kind == "directory":
            path.mkdir()
        elif kind == "bytes":
            path.write_bytes(b"\xff\xfe\0")
        elif kind == "deep":
            path.write_text(DEEP)
        else:
            path.symlink_to("nothing")
        return str(path)

    return make


def test_an_odd_seccomp_profile_is_told(odd_file, tmp_path):
    path = odd_file(tmp_path / "profile")
    with pytest.raises(RunStepError) as caught:
        security_options([f"seccomp={path}"], RunRequest(("a",), "/"))
    assert "profile" in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_an_odd_CDI_file_is_told(odd_file, tmp_path, place, suffix):
    odd_file(tmp_path / "cdi" / f"odd.{suffix}")
    request = RunRequest(("a",), place, devices=("example.com/a=b",), cdi_spec_dirs=(f"{tmp_path}/cdi",))
    with pytest.raises(HostError, match=r"is not known to CDI"):
        plan(request, look_up(request, made_up_host()))


def test_an_odd_hook_is_told(odd_file, tmp_path, place):
    odd_file(tmp_path / "hooks" / "odd.json")
    request = RunRequest(("a",), place, isolation="oci", hooks_dirs=(f"{tmp_path}/hooks",))
    with pytest.raises(HostError, match=r"the hook definition .*odd\.json"):
        plan(request, look_up(request, made_up_host()))


def test_an_odd_network_is_told(odd_file, tmp_path, place):
    odd_file(tmp_path / "cni" / "odd.conflist")
    request = RunRequest(
        ("a",), place, isolation="oci", network="front", cni_config_dirs=(f"{tmp_path}/cni",)
    )
    with pytest.raises(HostError, match="front"):
        plan(request, look_up(request, made_up_host()))


def test_an_odd_secret_is_told_or_read(odd_file, tmp_path):
    path = odd_file(tmp_path / "secret")
    try:
        assert len(parse_secret(f"id=a,src={path}", {})[1].data) <= 500 << 10
    except RequestError as error:
        assert path in str(error)


# Documents of the host


HOSTILE_VALUES = [
    None,
    True,
    7,
    -1,
    2**70,
    1.5,
    "",
    "x",
    "\0",
    "\ud800",
    [],
    [[]],
    {},
    {"a": {}},
    ["a", 7],
    [None],
]
CDI = {
    "cdiVersion": "0.7.0",
    "kind": "example.com/a",
    "annotations": {"a": "b"},
    "devices": [
        {
            "name": "b",
            "containerEdits": {
                "env": ["A=1"],
                "deviceNodes": [
                    {
                        "path": "/dev/x",
                        "type": "c",
                        "major": 1,
                        "minor": 3,
                        "fileMode": 384,
                        "uid": 1,
                        "gid": 1,
                        "permissions": "rw",
                    }
                ],
                "mounts": [{"hostPath": "/usr", "containerPath": "/u", "options": ["ro"], "type": "bind"}],
                "hooks": [
                    {"hookName": "prestart", "path": "/bin/x", "args": ["x"], "env": ["A=1"], "timeout": 5}
                ],
                "additionalGids": [7],
            },
        }
    ],
}
HOOK = {
    "version": "1.0.0",
    "hook": {"path": "/bin/x", "args": ["x"], "env": ["A=1"], "timeout": 5},
    "when": {"always": True, "annotations": {"a": "b"}, "commands": ["x"], "hasBindMounts": True},
    "stages": ["prestart"],
}
PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86_64"],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {
            "names": ["read"],
            "action": "SCMP_ACT_ALLOW",
            "errnoRet": 2,
            "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}],
            "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"], "minKernel": "4.8"},
            "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"], "minKernel": "9.8"},
        },
        {"name": "write", "action": "SCMP_ACT_ALLOW"},
    ],
}
NETWORK = {
    "name": "front",
    "cniVersion": "0.4.0",
    "plugins": [{"type": "bridge", "capabilities": {"dns": True}}],
}


def places(value, path=()):
    yield path
    for key, item in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(item, (*path, key))


def changed(value, path, new):
    """A copy with another value at one place; without it for what is no JSON."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is places:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def mutants(document):
    for path in places(document):
        for new in HOSTILE_VALUES:
            yield changed(document, path, new)
        if path:
            yield changed(document, path, places)


def in_words(call):
    try:
        call()
    except RunStepError as error:
        assert error.args and len(str(error)) < 4000


def test_any_CDI_file_is_used_or_told(place):
    for document in mutants(CDI):
        request = RunRequest(("a",), place, isolation="oci", devices=("example.com/a=b",))
        facts = HostFacts(
            **vars(made_up_host()) | {"cdi_specs": (TextFile("/etc/cdi/a.json", json.dumps(document)),)}
        )
        in_words(lambda request=request, facts=facts: plan(request, facts))


def test_any_hook_is_used_or_told(place):
    for document in mutants(HOOK):
        request = RunRequest(("a",), place, isolation="oci", annotations=("a=b",))
        facts = HostFacts(**vars(made_up_host()) | {"hooks": (TextFile("/h/a.json", json.dumps(document)),)})
        in_words(lambda request=request, facts=facts: plan(request, facts))


@pytest.mark.parametrize("isolation", ["oci", "chroot"])
def test_any_profile_is_used_or_told(place, isolation):
    from run_step.linux.seccomp_filter import compile_filter

    for document in mutants(PROFILE):
        request = RunRequest(("a",), place, isolation=isolation, seccomp=json.dumps(document))

        def call(request=request):
            made = plan(request, made_up_host())
            try:
                compile_filter(made.spec["linux"]["seccomp"])
            except OSError as error:
                assert str(error)

        in_words(call)


def test_any_network_is_used_or_told(place):
    for document in mutants(NETWORK):
        request = RunRequest(("a",), place, isolation="oci", network="front", dns=("192.0.2.1",))
        facts = HostFacts(
            **vars(made_up_host()) | {"cni": (TextFile("/n/a.conflist", json.dumps(document)),)}
        )
        in_words(lambda request=request, facts=facts: plan(request, facts))


def test_any_facts_are_used_or_told(place):
    facts = made_up_host().to_json()
    facts |= {
        "cdi_specs": [{"path": "/a.json", "text": "{}"}],
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
    }
    facts |= {
        "subuids": [[1, 2]],
        "subgids": [[1, 2]],
        "rlimits": [{"name": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    }
    for document in mutants(facts):

        def call(document=document):
            plan(RunRequest(("a",), place, isolation="chroot"), HostFacts.from_json(document))

        in_words(call)


# The request


def attempt(text, place):
    """As ``python -m run_step plan`` does it."""
    try:
        data = d.parse(text.replace('"@"', json.dumps(place)), strict=True)
    except ValueError:
        return
    try:
        request = RunRequest.from_json(data)
        validate(data)
        json.dumps(plan(request, look_up(request, made_up_host())).to_json())
    except (RunStepError, OSError) as error:
        assert str(error)


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_a_kept_request(path, place):
    attempt(path.read_text(), place)


@pytest.mark.parametrize("name", ["minimal", "full", "oci"])
def test_every_value_of_a_request_by_every_other(name, place):
    document = json.loads(next(path for path in SEEDS if path.stem == name).read_text())
    for mutant in mutants(document):
        attempt(json.dumps(mutant), place)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(max_size=20)
    | st.text(alphabet="/.:,=0123456789abmrwxz-*%\0\ud800\udcff\n", max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_request_is_planned_or_told(place, data):
    document = json.loads(data.draw(st.sampled_from(SEEDS)).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(document))))
        document = changed(document, path, data.draw(ODD))
    attempt(json.dumps(document), place)


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def call(*words, data=b"", env=None):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "run_step", *words],
        input=data,
        capture_output=True,
        check=False,
        timeout=100,
        preexec_fn=limited,
        env={**os.environ, **(env or {})},
    )
    assert time.monotonic() - began < 60
    assert b"Traceback" not in done.stderr
    return done


HOSTILE = {
    "deep": (DEEP.encode(), b"nested deeper"),
    "deep objects": (b'{"args":' * 50_000, b"nested deeper"),
    "large": (b" " * (20 << 20), b"larger than"),
    "no text": (b"\xff\xfe", b"not UTF-8"),
    "null": (b"\0" * 1000, b"not JSON"),
    "twice": (b'{"args": ["a"], "args": ["b"], "rootfs": "/"}', b"the key 'args' twice"),
    "NaN": (b'{"args": ["a"], "rootfs": "/", "oom_score_adj": NaN}', b"NaN is not a number"),
    "digits": (b'{"args": ["a"], "rootfs": "/", "oom_score_adj": ' + b"9" * 10_000 + b"}", b"not JSON"),
    "large number": (
        b'{"args": ["a"], "rootfs": "/", "oom_score_adj": ' + b"9" * 4_000 + b"}",
        b"out of range",
    ),
    "long key": (b'{"' + b"a" * (1 << 20) + b'": 1}', b"unknown field"),
    "many keys": (json.dumps({f"k{n}": n for n in range(100_000)}).encode(), b"unknown field"),
    "many values": (json.dumps({"args": list(range(1_000_000)), "rootfs": "/"}).encode(), b"str is wanted"),
    "long text": (json.dumps({"args": ["x" * (10 << 20)], "rootfs": 7}).encode(), b"str is wanted"),
    "a list": (json.dumps([["x"] * 100_000]).encode(), b"an object is wanted"),
    "long value": (
        json.dumps({"args": ["x"], "rootfs": "/", "ulimits": ["x" * (10 << 20)]}).encode(),
        b"ulimit 'xxx",
    ),
    "surrogate": (b'{"args": ["\\ud800"], "rootfs": "/", "isolation": "chroot"}', b"surrogate"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("action", ["plan", "run"])
def test_a_hostile_request_ends_soon_in_little_memory(name, action):
    data, said = HOSTILE[name]
    done = call(action, data=data)
    assert done.returncode == 2, done.stderr[-500:]
    assert done.stderr.startswith(b"run_step: ") and said in done.stderr and len(done.stderr) < 6000
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "nothing", "large"])
def test_a_request_file_that_is_none(kind, tmp_path):
    path = tmp_path / "request"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    elif kind == "large":
        with open(path, "wb") as stream:
            stream.truncate(1 << 33)
    done = call("plan", "--request", str(path))
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(f"run_step: {path} ".encode())


# The users of a hostile image


def make_passwd(path, kind):
    if kind == "large":
        with open(path, "wb") as stream:
            stream.write(b"bob:x:7:7::/home/bob:/bin/sh\n")
            stream.truncate(1 << 30)
    elif kind == "line":
        path.write_bytes(b"x" * (100 << 20) + b"\nbob:x:7:7::/home/bob:/bin/sh\n")
    elif kind == "entries":
        path.write_text("".join(f"u{n}:x:{n}:{n}::/:/bin/sh\n" for n in range(1_000_000)))
    elif kind == "colons":
        path.write_bytes(b":" * (8 << 20))
    elif kind == "members":
        path.write_bytes(b"g:x:7:" + b"a," * (3 << 20))
    elif kind == "nulls":
        path.write_bytes(b"bob:x:8:8::/\0:/bin/sh\n\0\0\0\nbob:x:7:7::/home/bob:/bin/sh\n")
    elif kind == "numbers":
        path.write_text(
            f"bob:x:{2**70}:1::/:\nbob:x:-1:1::/:\nbob:x:{'9' * 5000}:1::/:\nbob:x:1:{2**70}::/:\nbob:x:7:7::/:\n"
        )
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o20666, os.makedev(1, 5))
    elif kind == "directory":
        path.mkdir()
    elif kind == "breaks":
        path.write_text(
            "a:x:1:1:\x0bbob:x:0:0::/:\x85bob:x:0:0::/:\u2028bob:x:0:0:/:\nbob:x:7:7::/home/bob:/bin/sh\n"
        )


KINDS = {
    "large": "/etc/passwd of the image can't be read: it is larger than 8 MiB",
    "line": "/etc/passwd of the image can't be read: it is larger than 8 MiB",
    "entries": "/etc/passwd of the image can't be read: it is larger than 8 MiB",
    "colons": "user 'bob' is not in the image's /etc/passwd",
    "members": "user 'bob' is not in the image's /etc/passwd",
    "nulls": 7,
    "numbers": 7,
    "pipe": "user 'bob' is not in the image's /etc/passwd",
    "device": "user 'bob' is not in the image's /etc/passwd",
    "directory": "user 'bob' is not in the image's /etc/passwd",
    "breaks": 7,
}
READ = """
import sys
from run_step import Root, RunStepError, resolve_user
with Root(sys.argv[1]) as root:
    try:
        print(resolve_user(root, sys.argv[2]).uid)
    except RunStepError as error:
        print(error)
"""


@row("S15")
@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
def test_users_of_a_hostile_image(tmp_path, kind):
    """Nothing is decided by the beginning of a file."""
    (tmp_path / "etc").mkdir()
    make_passwd(tmp_path / "etc/passwd", kind)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path), "bob"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        timeout=100,
    )
    assert time.monotonic() - began < 60
    assert done.returncode == 0, done.stderr[-500:]
    wanted = KINDS[kind]
    assert done.stdout.startswith(f"{wanted}\n" if isinstance(wanted, int) else wanted)


@row("S15")
@pytest.mark.root
@pytest.mark.parametrize("kind", ["large", "line", "entries", "members", "pipe", "device", "directory"])
def test_groups_of_a_hostile_image(tmp_path, kind):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("bob:x:7:7::/home/bob:/bin/sh\n")
    make_passwd(tmp_path / "etc/group", kind)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path), "bob"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-500:]
    too_large = kind in ("large", "line", "entries")
    assert done.stdout == (
        "/etc/group of the image can't be read: it is larger than 8 MiB\n" if too_large else "7\n"
    )


def test_an_odd_file_of_facts_is_told(odd_file, tmp_path):
    path = odd_file(tmp_path / "facts")
    with pytest.raises((RequestError, OSError)) as caught:
        HostFacts.from_file(path)
    assert 0 < len(str(caught.value)) < 1000


def test_facts_of_a_file(tmp_path):
    (tmp_path / "facts").write_text(json.dumps(made_up_host().to_json()))
    assert HostFacts.from_file(str(tmp_path / "facts")) == made_up_host()


# As many and as deep as a request can have them


@pytest.mark.parametrize("isolation", ["oci", "chroot"])
def test_many_volumes_are_planned_in_time(place, isolation):
    volumes = tuple(f"/usr:/many/{number}" for number in range(20_000))
    request = RunRequest(("a",), place, isolation=isolation, volumes=volumes)
    began = time.monotonic()
    made = plan(request, look_up(request, made_up_host()))
    assert time.monotonic() - began < 60
    assert len(made.spec["mounts"]) > 20_000


def test_deep_volumes_are_planned_in_their_order(place):
    paths = ["/d" * count for count in range(1500, 0, -1)]
    request = RunRequest(("a",), place, isolation="chroot", volumes=tuple(f"/usr:{path}" for path in paths))
    made = plan(request, look_up(request, made_up_host()))
    assert [item["destination"] for item in made.spec["mounts"]][:1500] == sorted(paths, key=len)


EXPRESSIONS = [
    "(" * 100_000,
    "(" * 5_000 + ")" * 5_000,
    "a{99999999999999999999}",
    "[" * 300_000 + "]",
    "[][][]" * 50_000,
    "[[:alpha:]" * 30_000,
    "[[:nosuch:]]",
    "\\" * 300_001,
    "$" * 300_000,
    "x" * 500_000,
]


@row("X36")
@pytest.mark.parametrize("number", range(len(EXPRESSIONS)))
def test_any_expression_of_a_hook_is_used_or_told(place, number):
    pattern = EXPRESSIONS[number]
    document = {**HOOK, "when": {"commands": [pattern]}}
    facts = HostFacts(**vars(made_up_host()) | {"hooks": (TextFile("/h/a.json", json.dumps(document)),)})
    began = time.monotonic()
    in_words(lambda: plan(RunRequest(("a",), place, isolation="oci"), facts))
    assert time.monotonic() - began < 60


@row("X35")
def test_many_devices_of_one_file(place):
    many = [{"name": f"d{number}", "containerEdits": {}} for number in range(20_000)]
    facts = HostFacts(
        **vars(made_up_host()) | {"cdi_specs": (TextFile("/a.json", json.dumps({**CDI, "devices": many})),)}
    )
    began = time.monotonic()
    with pytest.raises(HostError, match=r"known are .*, …") as caught:
        plan(RunRequest(("a",), place, isolation="oci", devices=("example.com/a=none",)), facts)
    assert len(str(caught.value)) < 4000 and time.monotonic() - began < 60
