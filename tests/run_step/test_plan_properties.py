"""What holds for every request, whatever is in it."""

import json
import posixpath
from dataclasses import replace
from pathlib import Path

import pytest
from busybox_root import make_rootfs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import row

from run_step import (
    HostFacts,
    IDMapping,
    ImageDefaults,
    NamespaceOption,
    RequestError,
    Resources,
    RunRequest,
    RunStepError,
    plan,
)
from run_step.host import Rlimit, RuntimeFact
from run_step.linux.process import CAPABILITIES
from run_step.pipeline.rlimits import NAMES

ANY_TEXT = st.text(max_size=12)
NUMBER = st.integers(-(2**63), 2**64)
SCHEMA = Path(__file__).parents[2].parent / "shared" / "reference" / "oci-runtime-schema"


def tuples(item, size=4):
    return st.lists(item, max_size=size).map(tuple)


def all_fields(cls, **known):
    return st.builds(cls, **known)


ANY_REQUEST = all_fields(
    RunRequest,
    args=tuples(ANY_TEXT),
    rootfs=ANY_TEXT,
    image=st.builds(
        ImageDefaults,
        env=tuples(ANY_TEXT),
        user=ANY_TEXT,
        working_dir=ANY_TEXT,
        volumes=tuples(ANY_TEXT),
        hostname=ANY_TEXT,
    ),
    env=tuples(ANY_TEXT),
    user=ANY_TEXT,
    cwd=ANY_TEXT,
    isolation=ANY_TEXT,
    runtime_flags=tuples(ANY_TEXT),
    no_pivot=st.booleans(),
    namespaces=tuples(st.builds(NamespaceOption, ANY_TEXT, st.booleans(), ANY_TEXT)),
    uid_map=tuples(st.builds(IDMapping, NUMBER, NUMBER, NUMBER)),
    resources=st.builds(Resources, NUMBER, NUMBER, NUMBER, ANY_TEXT, ANY_TEXT, NUMBER, NUMBER, ANY_TEXT),
    dns=tuples(ANY_TEXT),
    volumes=tuples(ANY_TEXT),
    http_proxy=st.booleans(),
    terminal=ANY_TEXT,
)


@given(ANY_REQUEST)
def test_a_request_survives_json(request):
    assert RunRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_fields_at_their_default_are_left_out():
    assert RunRequest(("a",), "/r").to_json() == {"args": ["a"], "rootfs": "/r"}


def test_facts_survive_json(host):
    facts = replace(host, rlimits=(Rlimit("RLIMIT_CORE", 0, -1),))
    assert HostFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


GOOD = {"args": ["a"], "rootfs": "/r"}
BAD_REQUESTS = [
    (None, "request: an object is wanted, not None"),
    ([], "request: an object is wanted"),
    ("x", "request: an object is wanted"),
    ({}, "'args' is missing"),
    ({"args": ["a"]}, "'rootfs' is missing"),
    (GOOD | {"argz": 1}, r"unknown field 'argz'; did you mean 'args'\?"),
    (GOOD | {"volume": []}, r"unknown field 'volume'; did you mean 'volumes'\?"),
    (GOOD | {"zzz": 1}, r"unknown field 'zzz'$"),
    (GOOD | {"args": "a"}, r"request\.args: a list is wanted, not 'a'"),
    (GOOD | {"args": ["a", 1]}, r"request\.args\[1\]: str is wanted, not 1"),
    (GOOD | {"args": ["a", None]}, r"request\.args\[1\]: str is wanted"),
    (GOOD | {"rootfs": None}, r"request\.rootfs: str is wanted, not None"),
    (GOOD | {"http_proxy": 1}, r"request\.http_proxy: bool is wanted, not 1"),
    (GOOD | {"http_proxy": "true"}, r"bool is wanted"),
    (GOOD | {"resources": []}, r"request\.resources: an object is wanted"),
    (GOOD | {"resources": {"memory": "1g"}}, r"request\.resources\.memory: int is wanted, not '1g'"),
    (GOOD | {"resources": {"memory": True}}, r"int is wanted, not True"),
    (GOOD | {"resources": {"memory": 1.0}}, r"int is wanted"),
    (GOOD | {"resources": {"mem": 1}}, r"request\.resources: unknown field 'mem'"),
    (GOOD | {"image": {"enviroment": []}}, r"request\.image: unknown field"),
    (GOOD | {"namespaces": [{}]}, r"request\.namespaces\[0\]: the field 'name' is missing"),
    (GOOD | {"uid_map": [{"container_id": 0, "host_id": 0}]}, r"uid_map\[0\]: the field 'size' is missing"),
    (GOOD | {"uid_map": {"container_id": 0}}, r"request\.uid_map: a list is wanted"),
]


@pytest.mark.parametrize(
    ("data", "message"), BAD_REQUESTS, ids=[str(index) for index in range(len(BAD_REQUESTS))]
)
def test_a_wrong_request_names_the_place(data, message):
    with pytest.raises(RequestError, match=message):
        RunRequest.from_json(data)


# Planning


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    top = tmp_path_factory.mktemp("properties")
    return make_rootfs(str(top / "rootfs"))


ODD_PATH = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "etc", "dev", "shm", "hosts", "proc"]), max_size=5
)
CONTAINER_PATH = ODD_PATH.map(lambda parts: "/" + "/".join(parts))
VOLUME = st.builds(
    "{}:{}{}".format, st.sampled_from(["/", "/etc//"]), CONTAINER_PATH, st.sampled_from(["", ":ro"])
)
SENSIBLE = st.builds(
    RunRequest,
    args=st.sampled_from([("/bin/sh", "-c", "id"), ("sh",), ("nosuch", "x")]),
    rootfs=st.just(""),
    image=st.builds(
        ImageDefaults,
        env=tuples(st.sampled_from(["A=1", "PATH=", "PATH=/bin:", "HOME=/x", "odd"])),
        user=st.sampled_from(["", "bob", "7:8"]),
        working_dir=CONTAINER_PATH,
        volumes=tuples(CONTAINER_PATH),
    ),
    container_id=st.sampled_from(["", "f" * 64]),
    user=st.sampled_from(["", "root", "1000"]),
    cwd=ODD_PATH.map("/".join),
    hostname=st.sampled_from(["", "box"]),
    isolation=st.sampled_from(["oci", "chroot"]),
    namespaces=tuples(
        st.builds(
            NamespaceOption,
            st.sampled_from(["ipc", "uts", "pid", "network", "cgroup"]),
            st.booleans(),
            st.sampled_from(["", "/run/ns"]),
        )
    ),
    network=st.sampled_from(["default", "host", "none", "ns:/run/net"]),
    cap_add=tuples(st.sampled_from([*CAPABILITIES, "all"])),
    cap_drop=tuples(st.sampled_from([*CAPABILITIES, "all"])),
    ulimits=tuples(st.builds("{}={}".format, st.sampled_from(NAMES), st.integers(-1, 1 << 64))),
    resources=st.builds(
        Resources,
        cpu_period=st.integers(0, 1 << 40),
        cpu_quota=st.integers(-1, 1 << 40),
        cpu_shares=st.integers(0, 1 << 20),
        cpuset_cpus=st.sampled_from(["", "0-1"]),
        memory=st.integers(0, 1 << 50),
        memory_swap=st.integers(-1, 1 << 50),
        pids=st.integers(-1, 1 << 22),
        cgroup_parent=st.sampled_from(["", "/x"]),
    )
    | st.just(Resources()),
    volumes=tuples(VOLUME),
    shm_size=st.sampled_from(["", "1m"]),
    no_new_privileges=st.booleans(),
)
FACTS = HostFacts(
    capabilities=tuple(CAPABILITIES), runtimes=(RuntimeFact("crun", "/bin/crun", True),), hosts="1.1.1.1 a\n"
)


def planned(request, place):
    """The plan, or None for a request that is refused in words."""
    try:
        return plan(replace(request, rootfs=place), FACTS)
    except RunStepError:
        return None


MANY = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@row("X83")
@MANY
@given(request=SENSIBLE)
def test_equal_requests_give_equal_plans(place, request):
    assert planned(request, place) == planned(request, place)


@row("S60")
@MANY
@given(request=SENSIBLE)
def test_each_destination_once_and_clean(place, request):
    made = planned(request, place)
    if made is None:
        return
    destinations = [item["destination"] for item in made.spec["mounts"]]
    assert len(set(destinations)) == len(destinations)
    for path in destinations:
        assert path.startswith("/") and path != "/" and not path.startswith("//")
        assert posixpath.normpath(path) == path
    for index, path in enumerate(destinations):
        assert not any(path.startswith(f"{later}/") for later in destinations[index + 1 :])
    cwd = made.spec["process"]["cwd"]
    assert posixpath.normpath(cwd) == cwd and cwd.startswith("/")


@MANY
@given(request=ANY_REQUEST)
def test_any_request_is_planned_or_refused_in_words(place, request):
    """Nothing that a frontend can pass may end in an exception that is not of this package."""
    planned(replace(request, isolation="chroot"), place)


def schema_validator(folder):
    from jsonschema import Draft4Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    def load(name):
        contents = json.loads((folder / name.rsplit("/", 1)[-1]).read_text(encoding="utf-8"))
        return Resource.from_contents(contents, default_specification=DRAFT4)

    schema = load("config-schema.json").contents
    return Draft4Validator(schema, registry=Registry(retrieve=load))


@pytest.mark.slow
@pytest.mark.parametrize("folder", [SCHEMA] if SCHEMA.is_dir() else [], ids=["runtime-spec"])
def test_specs_satisfy_the_runtime_specifications_schema(place, folder):
    validator = schema_validator(folder)
    assert not validator.is_valid({"ociVersion": "1.0.2", "process": {"cwd": 1}})

    @MANY
    @given(request=SENSIBLE)
    def check(request):
        made = planned(request, place)
        if made is not None:
            errors = [
                f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(made.spec)
            ]
            assert errors == []

    check()
