"""OCI hooks (row X36): definitions as oci-hooks(5) has them, and hooks that real runtimes run."""

import json
import os
import threading
from dataclasses import replace

import pytest
from busybox_root import listing, marker, processes
from rows import row
from watching import groups, until
from ways import CONFINED

from run_step import HostError, look_up, plan
from run_step.host import TextFile

HOOK = {"path": "/usr/libexec/hook", "args": ["hook", "x"], "env": ["A=1"], "timeout": 5}
DEFINITION = {"version": "1.0.0", "hook": HOOK, "when": {"always": True}, "stages": ["prestart"]}


def file(path="/hooks/10-one.json", **changes):
    return TextFile(
        path, json.dumps({key: value for key, value in {**DEFINITION, **changes}.items() if value is not ...})
    )


def hooks_of(ask, host, *files, **fields):
    return plan(ask(**fields), replace(host, hooks=files)).spec.get("hooks", {})


def paths(found, stage="prestart"):
    return [hook["path"] for hook in found.get(stage, ())]


# Definitions


@row("X36")
def test_a_definition_that_matches_is_added_as_it_is(ask, host):
    found = hooks_of(ask, host, file(stages=["prestart", "poststop", "prestart"]))
    assert found == {"prestart": [HOOK], "poststop": [HOOK]}
    every = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    assert list(hooks_of(ask, host, file(stages=every))) == every
    assert hooks_of(ask, host, file(hook={"path": "/x"})) == {"prestart": [{"path": "/x"}]}


@row("X36")
@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ({"always": True}, True),
        ({"always": False}, False),
        ({"always": True, "commands": ["^/bin/sh$"]}, False),
        ({"commands": ["^/bin/true$"]}, True),
        ({"commands": ["nothing", "tru"]}, True),
        ({"commands": ["^/bin/tru$"]}, False),
        ({"commands": []}, False),
        ({"commands": ["/[[:alpha:]]+$"]}, True),
        ({"commands": ["/[[:digit:]]+$"]}, False),
        ({"commands": ["/[^[:digit:]/]+$"]}, True),
        ({"commands": [r"\/(true|false)$"]}, True),
        ({"annotations": {"^org\\.example\\.a$": "^yes$"}}, True),
        ({"annotations": {"example": "y"}}, True),
        ({"annotations": {"example": "^y$"}}, False),
        ({"annotations": {"^org\\.example\\.line$": "^one$"}}, False),
        ({"annotations": {"example.a": "yes", "example.b": "no"}}, True),
        ({"annotations": {"example.a": "yes", "example.c": "no"}}, False),
        ({"annotations": {}}, False),
        ({"annotations": {}, "always": True}, True),
        ({"hasBindMounts": True}, False),
        ({"hasBindMounts": False}, False),
        ({"always": True, "hasBindMounts": False}, False),
        ({"annotations": {"example.a": "yes"}, "commands": ["true"]}, True),
        ({"annotations": {"example.a": "no"}, "commands": ["true"]}, False),
    ],
)
def test_all_conditions_must_hold(ask, host, when, matches):
    annotations = ("org.example.a=yes", "org.example.b=no", "org.example.line=one\n")
    assert bool(hooks_of(ask, host, file(when=when), annotations=annotations)) is matches


@row("X36")
@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({"volumes": ("/:/v",)}, True),
        ({"volumes": ("/:/v:O",)}, True),
        ({"mounts": ("type=bind,source=/,target=/v",)}, True),
        ({"mounts": ("type=tmpfs,target=/v",)}, False),
        ({"mounts": ("type=tmpfs,target=/v", "type=bind,src=/,dst=/w,ro")}, True),
        ({"shm_size": "1m"}, False),
    ],
)
def test_bind_mounts_are_those_asked_for(ask, host, fields, matches):
    request = ask(**fields)
    facts = look_up(request, replace(host, hooks=(file(when={"hasBindMounts": True}),)))
    assert ("hooks" in plan(request, facts).spec) is matches


@row("X36")
def test_a_later_directory_replaces_a_file_of_the_same_name(ask, host):
    files = (
        file("/low/20-b.json", hook={"path": "/low-b"}),
        file("/low/10-A.json", hook={"path": "/low-a"}),
        file("/high/20-b.json", hook={"path": "/high-b"}),
        file("/high/10-c.json", hook={"path": "/high-c"}),
    )
    assert paths(hooks_of(ask, host, *files)) == ["/low-a", "/high-c", "/high-b"]
    # A broken file that is replaced is not read at all.
    assert paths(hooks_of(ask, host, TextFile("/low/x.json", "{"), file("/high/x.json"))) == [HOOK["path"]]


@row("X36")
def test_the_order_is_that_of_the_names_in_lower_case(ask, host):
    names = ("01-my-hook", "02-another-hook", "01-UPPERCASE", "01-Zebra", "01-apple")
    files = [file(f"/hooks/{name}.json", hook={"path": f"/{name}"}) for name in names]
    assert paths(hooks_of(ask, host, *files)) == [
        *("/01-apple", "/01-my-hook", "/01-UPPERCASE", "/01-Zebra", "/02-another-hook")
    ]


OLD = {"hook": "/usr/libexec/hook", "arguments": ["--debug"], "hasbindmounts": True, "stages": ["prestart"]}


@row("X36")
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (TextFile("/hooks/10-one.json", "{"), "is not JSON: Expecting property name"),
        (TextFile("/hooks/10-one.json", "[]"), "can't be used: [] is not of type 'object'"),
        (
            TextFile("/hooks/10-one.json", "", "it can't be read: Is a directory"),
            "can't be used: it can't be read: Is a",
        ),
        (
            TextFile("/hooks/10-one.json", json.dumps(OLD)),
            "is of the schema 0.1.0, which is deprecated and not read; write",
        ),
        (file(version="0.1.0"), "is of the schema 0.1.0"),
        (file(version="2.0.0"), "can't be used: version: '1.0.0' was expected"),
        (file(hook=...), "can't be used: 'hook' is a required property"),
        (file(hook={"args": []}), "can't be used: hook: 'path' is a required property"),
        (file(hook={"path": "bin/x"}), "can't be used: hook.path: 'bin/x' does not match"),
        (file(hook={"path": "/x", "timeout": 0}), "can't be used: hook.timeout: 0 is less than"),
        (file(hook={"path": "/x", "args": "a"}), "can't be used: hook.args: 'a' is not of type 'array'"),
        (file(hook={"path": "/x", "env": ["A"]}), "can't be used: hook.env[0]: 'A' does not match"),
        (file(hook={"path": "/x", "arg": []}), "('arg' was unexpected)"),
        (file(when=...), "can't be used: 'when' is a required property"),
        (file(when={}), "can't be used: when: {} "),
        (file(when={"always": "yes"}), "can't be used: when.always: 'yes' is not of type 'boolean'"),
        (file(when={"command": ["x"]}), "('command' was unexpected)"),
        (
            file(when={"always": True, "or": True}),
            'has "or" in its "when", which the schema 1.0.0 does not know',
        ),
        (
            file(when={"commands": ["("]}),
            "has the regular expression '(': missing ), unterminated subpattern",
        ),
        (file(when={"annotations": {"*": "x"}}), "has the regular expression '*': nothing to repeat"),
        (file(stages=...), "can't be used: 'stages' is a required property"),
        (file(stages=[]), "can't be used: stages: [] "),
        (file(stages=["early"]), "can't be used: stages[0]: 'early' is not one of ['prestart', "),
    ],
)
def test_a_broken_definition_is_told_with_its_path(ask, host, broken, words):
    with pytest.raises(HostError) as caught:
        hooks_of(ask, host, broken, annotations=("a=b",))
    assert str(caught.value).startswith("the hook definition /hooks/10-one.json ")
    assert words in str(caught.value)


@row("X36")
def test_directories_are_read(ask, host, tmp_path):
    for name, text in (
        ("b.json", file().text),
        ("a.json", file(when={"always": False}).text),
        ("c.conf", "{"),
    ):
        (tmp_path / name).write_text(text)
    request = ask(hooks_dirs=(str(tmp_path),))
    facts = look_up(request, host)
    assert [item.path for item in facts.hooks] == [f"{tmp_path}/a.json", f"{tmp_path}/b.json"]
    assert paths(plan(request, facts).spec["hooks"]) == [HOOK["path"]]
    (tmp_path / "d.json").mkdir()
    with pytest.raises(HostError, match=r"d.json can't be used: it can't be read: Is a directory"):
        plan(request, look_up(request, host))
    with pytest.raises(
        HostError, match=r"the hooks directory /none can't be read: No such file or directory"
    ):
        look_up(ask(hooks_dirs=("/none",)), host)


@row("X36")
def test_chroot_isolation_has_no_hooks(ask, host):
    with pytest.raises(
        HostError, match=r"/hooks/10-one.json is for this step, and hooks need an OCI runtime: use --isol"
    ):
        hooks_of(ask, host, file(), isolation="chroot")
    assert hooks_of(ask, host, file(when={"commands": ["other"]}), isolation="chroot") == {}


# Hooks that run


WITH_RUNTIME = [way for way in CONFINED if not str(way).startswith("chroot")]
with_runtimes = pytest.mark.parametrize(
    "runtime_step", [*WITH_RUNTIME, "oci of crun", "rootless of crun"], indirect=True
)
AT_CREATE = ("prestart", "createRuntime", "createContainer")


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def hook(tmp_path):
    """Makes a hook of a line for the shell, and the definition for it. It reads its input to the end: crun fails where
    the pipe is closed too early."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "out").chmod(0o777)

    def make(name, stages, line, when=None, **more):
        script = tmp_path / f"{name}.sh"
        script.write_text(f"#!/bin/sh\ncd {tmp_path}/out\nstate=$(cat)\n{line}\n")
        script.chmod(0o755)
        entry = {"path": str(script), "args": [name, "a b"], **more}
        definition = {
            "version": "1.0.0",
            "hook": entry,
            "when": when or {"always": True},
            "stages": list(stages),
        }
        (tmp_path / f"hooks/{name}.json").write_text(json.dumps(definition))
        return str(script)

    return make


@pytest.fixture
def out(tmp_path):
    return lambda: {path.name: path.read_text() for path in sorted((tmp_path / "out").iterdir())}


class Watched:
    """A step, and a look at what is there afterwards that was not there before."""

    def __init__(self, step, path):
        self.step = step
        self.fields = {"hooks_dirs": (f"{path}/hooks",), "container_id": os.urandom(32).hex()}
        self.before = listing(step.rootfs)

    def run(self, *args, **fields):
        return self.step.run(*args, **{**self.fields, **fields})

    def failure(self, *args, **fields):
        with pytest.raises(HostError) as caught:
            self.run(*args, **fields)
        self.leaves_nothing()
        return str(caught.value)

    def leaves_nothing(self):
        assert listing(self.step.rootfs) == self.before
        assert os.listdir(self.step.work_dir) == []
        assert groups(f"buildfront-{self.fields['container_id'][:12]}") == []


@pytest.fixture
def watched(runtime_step, tmp_path):
    return Watched(runtime_step, tmp_path)


@row("X36")
@pytest.mark.root
@with_runtimes
def test_hooks_are_given_the_containers_state(watched, hook, out):
    script = 'echo "$state" > $1-$A; echo "$# $PWD ${HOME-none}" > words-$1'
    stages = (*AT_CREATE, "poststart", "poststop")
    for stage in stages:
        hook(
            stage,
            [stage],
            script.replace("$1-", f"{stage}-").replace("words-$1", f"words-{stage}"),
            env=["A=1"],
        )
    result = watched.run("echo of the step; sleep 0.3; exit 3")
    assert (result.status, watched.step.stdout) == (3, b"of the step\n")
    watched.leaves_nothing()
    files = out()
    for stage in stages:
        state = json.loads(files[f"{stage}-1"])
        assert state["id"].startswith(f"buildfront-{watched.fields['container_id'][:12]}"), stage
        assert state["bundle"].startswith(watched.step.work_dir)
        if stage in ("prestart", "createRuntime", "poststart"):
            assert state["pid"] > 1
        assert files[f"words-{stage}"].startswith("1 /")
        assert files[f"words-{stage}"].endswith(" none\n")


@row("X36")
@pytest.mark.root
@with_runtimes
def test_a_hook_of_the_container_runs_in_it(watched, tmp_path):
    (tmp_path / "hooks").mkdir()
    entry = {"path": "/bin/busybox", "args": ["busybox", "sh", "-c", "cat > /tmp/started"]}
    definition = {"version": "1.0.0", "hook": entry, "when": {"always": True}, "stages": ["startContainer"]}
    (tmp_path / "hooks/start.json").write_text(json.dumps(definition))
    assert watched.run("[ -e /tmp/started ]").status == 0
    with open(f"{watched.step.rootfs}/tmp/started", encoding="utf-8") as stream:
        assert json.load(stream)["id"].startswith("buildfront-")


@row("X36")
@pytest.mark.root
@with_runtimes
def test_only_what_matches_runs_and_in_order(watched, hook, out, tmp_path):
    hook("30-command", ["createRuntime"], "echo command >> ran", {"commands": ["/sh$"]})
    hook("10-annotated", ["createRuntime"], "echo annotation >> ran", {"annotations": {"^a\\.b$": "^yes$"}})
    hook("20-bound", ["createRuntime"], "echo bound >> ran", {"hasBindMounts": True})
    hook("05-never", ["createRuntime"], "echo never >> ran", {"commands": ["never"]})
    asked = {"annotations": ("a.b=yes",), "mounts": (f"type=bind,source={tmp_path}/out,target=/v",)}
    assert watched.run("true").status == 0
    assert out() == {"ran": "command\n"}
    (tmp_path / "out/ran").unlink()
    assert watched.run("true", **asked).status == 0
    assert out() == {"ran": "annotation\nbound\ncommand\n"}
    assert watched.run("/bin/true", "x", annotations=("a.b=no",)).status == 0
    assert out() == {"ran": "annotation\nbound\ncommand\n"}
    watched.leaves_nothing()


@row("X36")
@pytest.mark.root
@with_runtimes
@pytest.mark.parametrize("stage", AT_CREATE)
def test_a_hook_that_fails_is_named_and_nothing_is_left(watched, hook, out, stage):
    hook("good", [stage], "echo good > good")
    script = hook("other", [stage], "echo oh no >&2; exit 3")
    words = watched.failure("echo ran > /tmp/ran")
    assert script in words and ("exit status 3" in words or "exit code: 3" in words)
    assert out() == {"good": "good\n"}


@row("X36")
@pytest.mark.root
@with_runtimes
def test_a_hook_that_takes_too_long_is_stopped(watched, hook):
    nap = marker()
    script = hook("slow", ["createRuntime"], f"exec sleep {nap}", timeout=1)
    words = watched.failure("true")
    assert script in words and "time" in words
    assert until(lambda: processes(nap) == [])


@row("X36")
@pytest.mark.root
@with_runtimes
def test_a_hook_that_is_not_there_is_named(watched, hook):
    script = hook("gone", ["prestart"], "true")
    os.unlink(script)
    assert script in watched.failure("true")


@row("X36")
@pytest.mark.root
@with_runtimes
def test_after_the_step_a_hooks_failure_is_a_warning_at_most(watched, hook, tmp_path):
    """It must not undo what the step has done (runtime-spec, runtime.md, "Lifecycle"); crun says nothing of it."""
    script = hook("after", ["poststop"], "echo oh no >&2; touch ran; exit 3")
    result = watched.run("exit 5")
    assert result.status == 5
    assert (tmp_path / "out/ran").exists()
    watched.leaves_nothing()
    told = [text for text in result.warnings if "a hook of the stage poststop failed" in text]
    assert len(told) == (watched.step.runtime.endswith("runc"))
    assert all(script in text for text in told)


@row("X36")
@pytest.mark.root
@pytest.mark.parametrize("runtime_step", [way for way in WITH_RUNTIME if way != "rootless"], indirect=True)
def test_a_hook_without_a_time_of_its_own_can_not_hang_the_build(watched, hook):
    nap = marker()
    hook("slow", ["prestart"], f"sleep {nap}; true")
    words = watched.failure("true", runtime_timeout=1)
    assert "create did not end within 1 s, and was killed" in words
    assert until(lambda: processes(nap) == [])
    cancel = threading.Event()
    threading.Thread(target=lambda: until(lambda: processes(nap)) and cancel.set()).start()
    assert watched.run("true", cancel=cancel).cancelled
    assert until(lambda: processes(nap) == [])
    watched.leaves_nothing()


@row("X36")
@pytest.mark.root
@pytest.mark.parametrize("runtime_step", ["chroot", "chroot as a user"], indirect=True)
def test_chroot_isolation_says_that_it_runs_none(watched, hook, out):
    hook("one", ["prestart"], "touch ran")
    assert "hooks/one.json is for this step, and hooks need an OCI runtime" in watched.failure("true")
    assert out() == {}
