"""RUN --mount as text: types, keys, spellings, and what is said of those that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.dockerfile import instructions as ast
from buildfront.dockerfile import mount_flags, parse
from buildfront.errors import BuildError


def checked(flag: ast.MountFlag) -> None:
    mount_flags.checked_kind(flag.text, flag.kind, tuple(name for name, _ in flag.fields))


def flags(line: str) -> list[tuple[str, dict[str, str]]]:
    """The mounts of a RUN."""
    run = parse(f"FROM x\nRUN {line} true\n", "Dockerfile")[1]
    assert isinstance(run, ast.Run)
    return [(item.kind, dict(item.fields)) for item in run.mounts]


@pytest.mark.parametrize(
    ("text", "kind", "fields"),
    [
        ("target=/x", "bind", {"target": "/x"}),
        (
            "type=bind,dst=/x,src=/y,from=a,rw",
            "bind",
            {"target": "/x", "source": "/y", "from": "a", "readwrite": "true"},
        ),
        ("type=bind,destination=/x,ro=false", "bind", {"target": "/x", "readonly": "false"}),
        ("type=BIND,Target=/x,readwrite=true", "bind", {"target": "/x", "readwrite": "true"}),
        (
            "type=cache,target=/c,id=i,sharing=locked,mode=0700,uid=1,gid=2,readonly",
            "cache",
            {
                "target": "/c",
                "id": "i",
                "sharing": "locked",
                "mode": "0700",
                "uid": "1",
                "gid": "2",
                "readonly": "true",
            },
        ),
        ("type=tmpfs,target=/t,size=64m", "tmpfs", {"target": "/t", "size": "64m"}),
        ("type=secret,id=s,required", "secret", {"id": "s", "required": "true"}),
        ("type=secret,env=TOKEN", "secret", {"env": "TOKEN"}),
        ("type=ssh", "ssh", {}),
        ("target=/x,dst=/y,rw,ro", "bind", {"target": "/y", "readonly": "true"}),
        ("type=tmpfs,target=/x,rw=0", "tmpfs", {"target": "/x", "readwrite": "0"}),
        ("type=secret,src=token", "secret", {"source": "token"}),
        ('type=bind,"target=/a,b",source=x', "bind", {"target": "/a,b", "source": "x"}),
        ("type=cache,target=/c,z", "cache", {"target": "/c", "relabel": "z"}),
        ("type=bind,target=$X/y,source=${Y:-z}", "bind", {"target": "$X/y", "source": "${Y:-z}"}),
    ],
)
def test_a_mount_is_read(text: str, kind: str, fields: dict[str, str]) -> None:
    flag = mount_flags.parse(text)
    assert (flag.kind, dict(flag.fields)) == (kind, fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=volume,target=/x", "unknown type 'volume'"),
        ("type=cahce,target=/x", "unknown type 'cahce'"),
        ("type=bind,target=/x,size=1m", "unknown key 'size' for type=bind"),
        ("type=tmpfs,target=/x,from=a", "unknown key 'from' for type=tmpfs"),
        ("type=bind,target=/x,traget=/y", "unknown key 'traget'"),
        ("type=bind,target=/x, source=/y", "unknown key ' source'"),
        ("type=bind,target=/x,sharing=shared", "unknown key 'sharing' for type=bind"),
        ("type=bind,target", "target needs a value"),
        ("type=bind,target=/x,from=$BASE", "from takes no variable"),
        ('type=bind,"target=/x', "unexpected end of data"),
    ],
)
def test_what_is_no_mount_is_told(text: str, words: str) -> None:
    with pytest.raises(BuildError, match=words.replace("$", r"\$")):
        checked(mount_flags.parse(text))


def test_most_is_checked_when_the_stage_is_built() -> None:
    for text in ("", "type=volume,target=/x", "type=$T,what=x", "target"):
        assert mount_flags.parse(text).text == text


def test_a_run_may_have_several_and_other_flags_between_them() -> None:
    found = flags("--mount=target=/a --network=none --mount=type=tmpfs,target=/b")
    assert found == [("bind", {"target": "/a"}), ("tmpfs", {"target": "/b"})]


def test_the_command_begins_where_the_flags_end() -> None:
    run = parse("FROM x\nRUN --mount=target=/a mount --mount=x\n", "Dockerfile")[1]
    assert isinstance(run, ast.Run)
    assert run.command.words == ("mount --mount=x",)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("64m", 64 << 20),
        ("1.5G", 3 << 29),
        ("2KiB", 2048),
        ("3 mb", 3 << 20),
        ("1t", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert mount_flags.size("x", text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1 0", "１"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(BuildError, match="size="):
        mount_flags.size("x", text)


@pytest.mark.parametrize(
    ("text", "mode"), [("0400", 0o400), ("755", 0o755), ("0o17", 0o17), ("1777", 0o1777)]
)
def test_modes(text: str, mode: int) -> None:
    assert mount_flags.mode("x", text) == mode


@pytest.mark.parametrize("text", ["", "8", "07777777", "rwx", "-1", "0x1"])
def test_modes_that_are_none(text: str) -> None:
    with pytest.raises(BuildError, match="octal"):
        mount_flags.mode("x", text)


@given(st.text(max_size=40))
def test_any_text_is_a_mount_or_an_error(text: str) -> None:
    try:
        flag = mount_flags.parse(text)
    except BuildError:
        return
    try:
        checked(flag)
    except BuildError:
        return
    assert {name for name, _ in flag.fields} <= set(mount_flags.KEYS[flag.kind])
