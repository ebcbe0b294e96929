"""What is in the key of a step, and why the rest is not: a table for every field and flag there is.

A new field, option or flag fails here until it has an entry: a value that must change the key, or a reason.
"""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import ExitStack
from typing import Any

import pytest

from buildfront import BuildOptions
from buildfront.api.prepare import prepare
from buildfront.dockerfile import flags as flag_syntax
from buildfront.dockerfile import mount_flags as mount_syntax
from buildfront.dockerfile import parse
from buildfront.engine import cache_key
from buildfront.engine.cache_lookup import components, key_for
from buildfront.engine.ops.run_inputs import cache_base, mount_content
from buildfront.engine.ops.table import operation_of
from buildfront.engine.result import Result
from buildfront.engine.walk import Engine
from buildfront.errors import SourceRange
from buildfront.graph import CopyOp, Origin, RunOp, SourceOp, WorkdirOp
from buildfront.graph.step_graph import Device, Inline, Mount, Step, StepGraph
from buildfront.options import EngineOptions, Output
from buildfront.store.caches import Caches
from buildfront.store.image_store import Store
from run_step import (
    ConsoleSize,
    IDMapping,
    ImageDefaults,
    NamespaceOption,
    Resources,
    RunMount,
    RunRequest,
    Secret,
)
from run_step.ssh import SocketAgent


@dataclasses.dataclass(frozen=True)
class In:
    """It is in the key: with this value the key is another one."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Out:
    """It is not, for this reason: with this value the key is the same."""

    value: Any
    why: str


REPLACED = "every RUN has its own: the step's operation is in the key"
LIMIT = "a limit says how far a step may go, not what it gives"
WAY = "a way of running, or a place; all of them give the same"

REQUEST: dict[str, In | Out] = {
    "args": Out(("x",), REPLACED),
    "rootfs": Out("/x", WAY),
    "image": Out(ImageDefaults(env=("A=1",), user="u"), REPLACED),
    "container_id": Out("x", "the key itself"),
    "env": Out(("A=1",), REPLACED),
    "user": In("bob"),
    "cwd": In("/tmp"),
    "hostname": In("default"),
    "isolation": Out("chroot", WAY),
    "runtime": Out("crun", WAY),
    "runtime_flags": Out(("--debug",), WAY),
    "no_pivot": Out(True, WAY),
    "namespaces": In((NamespaceOption("pid", host=True),)),
    "network": In("none"),
    "cni_config_dirs": In(("/etc/other",)),
    "cni_plugin_dirs": Out(("/opt/cni",), "programs that make what the configuration says"),
    "uid_map": In((IDMapping(0, 100000, 65536),)),
    "gid_map": In((IDMapping(0, 100000, 65536),)),
    "cap_add": In(("SYS_ADMIN",)),
    "cap_drop": In(("CHOWN",)),
    "ulimits": In(("nofile=10",)),
    "resources": Out(Resources(memory=1 << 30, cpuset_cpus="0", pids=100, cgroup_parent="/x"), LIMIT),
    "add_hosts": In(("a:1.2.3.4",)),
    "dns": In(("1.1.1.1",)),
    "dns_search": In(("example.org",)),
    "dns_options": In(("ndots:2",)),
    "no_hosts": In(True),
    "no_hostname": In(True),
    "volumes": In(("/a:/b",)),
    "mounts": In(("type=tmpfs,target=/x",)),
    "run_mounts": Out((RunMount("tmpfs", "/x"),), REPLACED),
    "shm_size": In("1m"),
    "http_proxy": Out(
        True, "proxies are the machine's and never count (Dockerfile reference, predefined ARGs)"
    ),
    "no_new_privileges": In(True),
    "seccomp": In('{"defaultAction": "SCMP_ACT_ALLOW"}'),
    "apparmor": In("unconfined"),
    "labels": In(("disable",)),
    "mask": In(("/proc/x",)),
    "unmask": In(("ALL",)),
    "devices": In(("/dev/fuse",)),
    "cdi_spec_dirs": In(("/etc/other",)),
    "hooks_dirs": In(("/etc/hooks",)),
    "group_add": In(("keep-groups",)),
    "umask": In("0077"),
    "oom_score_adj": Out(100, LIMIT),
    "default_ulimits": In(("nofile=10",)),
    "annotations": In(("a=b",)),
    "terminal": In("with"),
    "console_size": In(ConsoleSize(80, 25)),
}

CONFIG = "the image's config, not its files"
NAMES = "the base image's own digest counts, however it was found"
AFTER = "what becomes of the image, after its steps"
SCHEDULE = "when and where steps run"
GRANTED = "what it says is in the step's own operation"
HIDDEN = "as with docker: what a secret or an agent holds never counts, nor whether it was given"

BUILD: dict[str, In | Out] = {
    "context": In("other"),
    "dockerfile": In("Other"),
    "ignorefile": In("rules"),
    "tags": Out(("x",), CONFIG),
    "target": In("early"),
    "platform": In("linux/riscv64"),
    "build_args": In({"V": "2"}),
    "labels": Out((("a", "b"),), CONFIG),
    "contexts": In({"more": "other"}),
    "pull": Out("never", NAMES),
    "no_cache": Out(True, "the result is remembered under the same key, for the next build"),
    "no_cache_filter": Out(("early",), "as no_cache"),
    "outputs": Out((Output("oci", "x"),), AFTER),
    "compression": Out("zstd", "a layer that is there already is used as it is (docs/cli.md)"),
    "compression_level": Out(1, "as compression"),
    "jobs": Out(1, SCHEDULE),
    "run_defaults": In(RunRequest(("",), "/", user="bob")),
    "run_step": Out("other", WAY),
    "timeout": Out(1.0, LIMIT),
    "stdin": In(0),
    "secrets": Out({"s": Secret(b"x")}, HIDDEN),
    "agents": Out({"default": SocketAgent("/x")}, HIDDEN),
    "compat_volumes": In(True),
    "allow": Out(("network.host",), GRANTED),
    "root": Out(None, "a store has its own cache"),
}

ENGINE: dict[str, In | Out] = {
    "jobs": Out(1, SCHEDULE),
    "no_cache": BUILD["no_cache"],
    "no_cache_filter": Out(("0", "1"), "as no_cache"),
    "run_defaults": BUILD["run_defaults"],
    "run_step": BUILD["run_step"],
    "compression": BUILD["compression"],
    "compression_level": BUILD["compression_level"],
    "timeout": BUILD["timeout"],
    "stdin": BUILD["stdin"],
    "secrets": BUILD["secrets"],
    "agents": BUILD["agents"],
    "compat_volumes": BUILD["compat_volumes"],
    "allow": BUILD["allow"],
}

PROXY = "predefined proxy arguments never count (Dockerfile reference)"

RUN: dict[str, In | Out] = {
    "command": In(("sh", "-c", "x")),
    "env": In(("A=2", "B=1")),
    "args": In(("V=2", "W=1")),
    "proxy": Out(("http_proxy=x",), PROXY),
    "user": In("bob"),
    "cwd": In("/x"),
    "network": In("none"),
    "volumes": Out(("/v",), "a volume's content is kept, without compat_volumes"),
    "mounts": In((Mount("tmpfs", "/x"),)),
    "script": In(Inline("EOF", "echo\n")),
    "security": In("insecure"),
    "devices": In((Device("vendor.com/class=a"),)),
}

COPY: dict[str, In | Out] = {
    "sources": Out(("b",), "what they select counts, by its digest"),
    "dest": In("/d/"),
    "origin": In(Origin("step", step=0)),
    "chown": In("1:1"),
    "chmod": In("600"),
    "unpack": In(True),
    "for_mount": In(True),
    "parents": Out(True, "which files it selects counts, by their digest"),
    "excludes": Out(("x",), "which files are left counts, by their digest"),
    "link": In(True),
}

WORKDIR: dict[str, In | Out] = {"path": In("/y"), "user": In("bob"), "created": In(1)}

SOURCE: dict[str, In | Out] = {
    "reference": Out("other", NAMES),
    "platform": Out("linux/riscv64", NAMES),
}

CONTENT = "what is read there counts, by its digest"
MOUNT: dict[str, In | Out] = {
    "kind": In("cache"),
    "target": In("/y"),
    "origin": Out(1, CONTENT),
    "source": In("/y"),
    "read_only": In(True),
    "id": In("other"),
    "sharing": Out("locked", "who waits for whom"),
    "env": In("TOKEN"),
    "required": Out(True, HIDDEN),
    "size": In(1),
    "mode": In(0o700),
    "uid": In(0),
    "gid": In(0),
}

FLAGS: dict[str, dict[str, In | Out]] = {
    "FROM": {"platform": Out("linux/amd64", NAMES)},
    "COPY": {
        "from": In("early"),
        "chown": In("1:1"),
        "chmod": In("600"),
        "link": In("true"),
        "parents": In("true"),
        "exclude": Out("b", "which files are left counts, by their digest"),
    },
    "ADD": {
        "chown": In("1:1"),
        "chmod": In("600"),
        "link": In("true"),
        "exclude": Out("b", "which files are left counts, by their digest"),
        "checksum": Out(None, "what is fetched counts by its identity; other sources can't have one"),
        "keep-git-dir": Out("true", "it is about git, and means nothing for other sources"),
        "unpack": In("false"),
    },
    "RUN": {
        "network": In("none"),
        "mount": In("type=tmpfs,target=/x"),
        "security": In("insecure"),
        "device": In("vendor.com/class=a"),
    },
}


def names(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


@pytest.mark.parametrize(
    ("cls", "table"),
    [
        (RunRequest, REQUEST),
        (BuildOptions, BUILD),
        (EngineOptions, ENGINE),
        (RunOp, RUN),
        (CopyOp, COPY),
        (WorkdirOp, WORKDIR),
        (SourceOp, SOURCE),
        (Mount, MOUNT),
    ],
)
def test_every_field_is_in_the_key_or_has_a_reason(cls, table):
    assert names(cls) == set(table)
    assert all(entry.why for entry in table.values() if isinstance(entry, Out))


# options of a RunRequest

BASE = RunRequest(args=("",), rootfs="/", terminal="without")


@pytest.mark.parametrize("name", REQUEST)
def test_a_field_of_a_request(name):
    changed = dataclasses.replace(BASE, **{name: REQUEST[name].value})
    assert changed != BASE or name == "http_proxy"
    assert (cache_key.options_of(changed) != cache_key.options_of(BASE)) == isinstance(REQUEST[name], In)
    assert (name in cache_key.RUN_OPTIONS) == isinstance(REQUEST[name], In)


def test_options_that_were_not_given_are_no_options():
    assert cache_key.options_of(BASE) == {}
    assert cache_key.options_of(dataclasses.replace(BASE, network="")) == {}


def test_no_two_options_are_mistaken_for_each_other():
    """The same word as the value of different options, and of one list in another order or in pieces."""
    texts = [name for name in cache_key.RUN_OPTIONS if isinstance(getattr(BASE, name), str)]
    lists = [name for name in cache_key.RUN_OPTIONS if getattr(BASE, name) == ()]
    requests = [dataclasses.replace(BASE, **{name: "x"}) for name in texts]
    for name in lists:
        if name not in ("namespaces", "uid_map", "gid_map"):
            wanted: list[tuple[str, ...]] = [("x",), ("x", "y"), ("y", "x"), ("x,y",), ("x y",), ('x","y',)]
            requests += [dataclasses.replace(BASE, **{name: value}) for value in wanted]
    keys = [cache_key.digest(cache_key.options_of(request)) for request in requests]
    assert len(set(keys)) == len(keys)


# operations


def step(op: Any, number: int = 1) -> Step:
    return Step(number, 0, "", SourceRange("Dockerfile", 1, 1), op, 0, (0,))


def key(op: Any, content: str = "content") -> str:
    reads = ("content",) * len(op.mounts) if isinstance(op, RunOp) else (content,)
    return cache_key.key_of(components(operation_of(step(op)), "parent", "linux/amd64", reads, {}))


OPS: list[tuple[Any, dict[str, In | Out]]] = [
    (RunOp(("true",), ("A=1",), ("V=1",), (), "", "/", "", ()), RUN),
    (CopyOp(("a",), "/d", Origin("context")), COPY),
    (WorkdirOp("/x"), WORKDIR),
    (SourceOp("scratch"), SOURCE),
]


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, table in OPS for name in table])
def test_a_field_of_an_operation(op, name):
    entry = next(table for known, table in OPS if known is op)[name]
    changed = dataclasses.replace(op, **{name: entry.value})
    assert changed != op
    assert (key(changed) != key(op)) == isinstance(entry, In)


@pytest.mark.parametrize("name", MOUNT)
def test_a_field_of_a_mount(name):
    def with_mount(mount: Mount) -> str:
        return key(dataclasses.replace(OPS[0][0], mounts=(mount,)))

    base = Mount("bind", "/x", id="m")
    changed = dataclasses.replace(base, **{name: MOUNT[name].value})
    assert (with_mount(changed) != with_mount(base)) == isinstance(MOUNT[name], In)


def test_what_a_step_reads_and_what_it_lies_on_are_in_its_key():
    for op, _ in OPS[1:2] + OPS[3:]:
        assert key(op, "one") != key(op, "two")
    parts = [
        components(operation_of(step(OPS[0][0])), *more, (), {})
        for more in (("p", "x"), ("q", "x"), ("p", "y"))
    ]
    assert len({cache_key.key_of(item) for item in parts}) == 3


def test_compat_volumes_count_where_there_are_volumes():
    def run(volumes: tuple[str, ...], compat: bool) -> str:
        op = dataclasses.replace(OPS[0][0], volumes=volumes)
        options = {"compat_volumes": True} if compat else {}
        return cache_key.key_of(components(operation_of(step(op)), "p", "x", (), options))

    assert run((), True) == run((), False) == run(("/v",), False) != run(("/v",), True)


def test_kinds_of_operation_are_never_mistaken():
    keys = [key(op) for op, _ in OPS]
    assert len(set(keys)) == len(keys)


# whole builds

TEXT = """FROM scratch AS early
COPY a /a
FROM scratch
ARG V=1
WORKDIR /w
COPY . /all/
COPY --from=more . /more/
VOLUME /v
RUN --mount=type=secret,id=s --mount=type=ssh echo $V
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("context", "other", "more"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
        (tmp_path / name / "Dockerfile").write_text(TEXT)
    (tmp_path / "Other").write_text(TEXT + "RUN echo more\n")
    (tmp_path / "rules").write_text("a\n!Dockerfile\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys_of(options: BuildOptions, **more: Any) -> list[str]:
    """The key of every step, as if all before it had run; ``more`` are changed engine options."""
    with ExitStack() as stack:
        prepared = prepare(options, stack)
        engine = prepared.engine
        if more:
            old = engine.state
            changed = dataclasses.replace(old.options, **more)
            engine = Engine(old.store, old.graph, old.bases, old.contexts, changed, old.emit)
        return chain(engine)


def chain(engine: Engine) -> list[str]:
    state = engine.state
    out = []
    for item in state.graph.steps:
        operation = operation_of(item)
        reads = operation.reads(state)
        found = key_for(state, operation, ("a stage's",) if reads is None else reads).digest
        state.results[item.id] = Result(found, None)
        out.append(found)
    return out


@pytest.mark.parametrize("name", BUILD)
def test_an_option_of_a_build(place, name):
    base = BuildOptions(context="context", contexts={"more": "more"}, root=str(place / "store"))
    value = BUILD[name].value if name != "root" else str(place / "store-2")
    changed = dataclasses.replace(base, **{name: value})
    assert (keys_of(changed) != keys_of(base)) == isinstance(BUILD[name], In)


@pytest.mark.parametrize("name", ENGINE)
def test_an_option_of_the_engine(place, name):
    base = BuildOptions(context="context", contexts={"more": "more"}, root=str(place / "store"))
    assert (keys_of(base, **{name: ENGINE[name].value}) != keys_of(base)) == isinstance(ENGINE[name], In)


def known_flags(instruction: str) -> set[str]:
    """The flags that the parser takes, by what it says of one that it does not."""
    taken: set[str] = set()

    def take(given: Any, name: str, known: tuple[str, ...] = (), **more: tuple[str, ...]) -> Any:
        if name == instruction:
            taken.update(known, *more.values())
        return flag_syntax_take(given, name, known, **more)

    flag_syntax_take = flag_syntax.take
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flag_syntax, "take", take)
        example = {"FROM": "", "COPY": "COPY a /", "ADD": "ADD a /", "RUN": "RUN true"}[instruction]
        parse(f"FROM scratch\n{example}\n", "Dockerfile")
    return taken


@pytest.mark.parametrize("instruction", FLAGS)
def test_every_flag_has_an_entry(instruction):
    assert known_flags(instruction) == set(FLAGS[instruction])


@pytest.mark.parametrize(
    ("instruction", "name"),
    [(i, n) for i, table in FLAGS.items() for n in table if table[n].value is not None],
)
def test_a_flag(place, instruction, name):
    entry = FLAGS[instruction][name]

    def keys(flag: str) -> list[str]:
        rest = {"FROM": "scratch", "COPY": "a /x", "ADD": "a /x", "RUN": "true"}[instruction]
        head = "FROM scratch AS early\nCOPY a /a\n" + (
            "" if instruction == "FROM" else "FROM scratch\nCOPY a /early\n"
        )
        (place / "context" / "Dockerfile").write_text(f"{head}{instruction} {flag} {rest}\n")
        options = BuildOptions(
            allow=("security.insecure", "device"),
            context="context",
            ignorefile="rules-2",
            root=str(place / "store"),
            platform="linux/amd64",
        )
        return keys_of(options)[-1:]

    (place / "rules-2").write_text("Dockerfile\n")
    assert (keys(f"--{name}={entry.value}") != keys("")) == isinstance(entry, In)


@pytest.mark.parametrize("kind", mount_syntax.KEYS)
def test_every_key_of_a_mount_is_a_field_or_says_the_same_in_another_way(kind):
    other = {
        "from",
        "readonly",
        "readwrite",
        "relabel",
    }  # origin, read_only; relabel is for files of the host
    assert set(mount_syntax.KEYS[kind]) - other <= set(MOUNT)


# strings that stand for something


def engine(tmp_path: Any) -> Engine:
    store = Store(str(tmp_path / "store"))
    empty = Step(0, 0, "", SourceRange("Dockerfile", 1, 1), SourceOp("scratch"), None, ())
    graph = StepGraph((), (empty, step(OPS[0][0])), 0, "linux/amd64")
    return Engine(store, graph, {}, {}, EngineOptions(), lambda event: None)


def test_a_whole_stage_that_is_mounted_counts_by_the_run_that_made_it(tmp_path):
    state = engine(tmp_path).state
    mount = Mount("bind", "/x", origin=1)
    found = []
    for number in (7, 8):
        state.results[1] = Result("key", number)
        found.append(mount_content(state, mount))
    assert found[0] != found[1]


def test_what_a_cache_starts_with_is_never_mistaken(tmp_path):
    state = engine(tmp_path).state
    mounts = [
        Mount("cache", "/x", origin=1, source=source, mode=mode, uid=uid, gid=gid)
        for source in ("/", "/a", "/a (1, None, None)", "/a (None, 1, None)")
        for mode, uid, gid in itertools.product((None, 1), repeat=3)
    ]
    mounts += [Mount("cache", "/x", mode=1), Mount("cache", "/x", uid=1), Mount("cache", "/x")]
    bases = []
    for name in ("key", "key/a"):
        state.results[1] = Result(name, 7)
        bases += [cache_base(state, mount) for mount in mounts if name == "key" or mount.origin is not None]
    assert len(set(bases)) == len(bases)
    assert cache_base(state, Mount("cache", "/x")) == ""


def test_names_of_caches_are_never_mistaken():
    pairs = [
        ("a", ""),
        ("", "a"),
        ('a","', ""),
        ("a", '","'),
        ("\U0001f480", ""),
        ("\ud83d\udc80", ""),
        ("\udcff", ""),
    ]
    found = {Caches.name(identity, base) for identity, base in pairs}
    assert len(found) == len(pairs)


def test_selectors_are_never_mistaken():
    sources = [("a", "b"), ("a b",), ('a","b',), ("a", "b", ""), ("b", "a"), ("\udcff",), ("\\udcff",)]
    found = {cache_key.selector(item) for item in sources}
    found |= {
        cache_key.selector(("a",), *more)
        for more in itertools.product((False, True), ((), ("b",)), (False, True))
    }
    found |= {cache_key.selector(("a",), False, item) for item in sources}
    assert len(found) == len(sources) + 8 + len(sources)
