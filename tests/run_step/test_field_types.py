"""A request with a value of a wrong type is refused by the name of the field, where it is made."""

from __future__ import annotations

import collections
import dataclasses
import enum
import timeit
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from run_step import (
    ConsoleSize,
    IDMapping,
    ImageDefaults,
    NamespaceOption,
    RequestError,
    Resources,
    RunMount,
    RunRequest,
)

CLASSES = (ConsoleSize, IDMapping, ImageDefaults, NamespaceOption, Resources, RunMount, RunRequest)
NEEDED: dict[type, dict[str, typing.Any]] = {
    ConsoleSize: {"width": 80, "height": 24},
    IDMapping: {"container_id": 0, "host_id": 1, "size": 1},
    NamespaceOption: {"name": "pid"},
    RunMount: {"kind": "tmpfs"},
    RunRequest: {"args": ("id",), "rootfs": "/r"},
}
FIELDS = [(cls, field.name) for cls in CLASSES for field in dataclasses.fields(cls)]
ODD = (None, True, 1, 1.5, "id", b"id", ("id",), (1,), (None,), {"a": "b"}, {"a"}, Path("/r"), object())


def fits(value: object, hint: typing.Any) -> bool:
    """Whether ``value`` may be in a field of this type."""
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(fits(one, item) for one in value)
    if typing.get_args(hint):
        return any(fits(value, one) for one in typing.get_args(hint))
    return type(value) is hint


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_takes_its_own_type_and_no_other(cls: type, name: str) -> None:
    hint = typing.get_type_hints(cls)[name]
    for value in ODD:
        fields = {**NEEDED.get(cls, {}), name: value}
        if fits(value, hint):
            assert getattr(cls(**fields), name) == value
            continue
        with pytest.raises(RequestError) as caught:
            cls(**fields)
        text = str(caught.value)
        assert text.startswith(f"{cls.__name__}.{name}") and "is wanted, not " in text
        assert len(text) < 400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"args": "id"}, "RunRequest.args: a tuple of str is wanted, not 'id'"),
        ({"args": ("id", 5)}, "RunRequest.args[1]: str is wanted, not 5"),
        ({"env": {"A": "b"}}, "RunRequest.env: a tuple of str is wanted, not an object"),
        ({"rootfs": Path("/r")}, "RunRequest.rootfs: str is wanted, not PosixPath('/r')"),
        ({"oom_score_adj": "5"}, "RunRequest.oom_score_adj: int or None is wanted, not '5'"),
        ({"oom_score_adj": True}, "RunRequest.oom_score_adj: int or None is wanted, not True"),
        ({"no_pivot": 1}, "RunRequest.no_pivot: bool is wanted, not 1"),
        ({"resources": {"memory": 1}}, "RunRequest.resources: Resources is wanted, not an object"),
        ({"uid_map": ((0, 1, 2),)}, "RunRequest.uid_map[0]: IDMapping is wanted, not a list"),
        ({"image": None}, "RunRequest.image: ImageDefaults is wanted, not None"),
    ],
)
def test_the_message_says_what_is_wanted(fields: dict[str, typing.Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        RunRequest(**{"args": ("id",), "rootfs": "/r", **fields})
    assert str(caught.value) == message


def test_a_list_becomes_a_tuple() -> None:
    made = RunRequest(args=["id", "-u"], rootfs="/r", run_mounts=[RunMount("tmpfs", "/t")])  # type: ignore[arg-type]
    assert made == RunRequest(("id", "-u"), "/r", run_mounts=(RunMount("tmpfs", "/t"),))
    assert hash(made)


def test_a_subclass_is_what_it_is_a_subclass_of() -> None:
    class Network(enum.StrEnum):
        NONE = "none"

    class Mine(RunRequest):
        """A frontend's own."""

    assert Mine(("id",), "/r", network=Network.NONE).network == "none"
    with pytest.raises(RequestError, match=r"^Mine\.network"):
        Mine(("id",), "/r", network=5)  # type: ignore[arg-type]


class Hook(typing.Protocol):
    """What a subclass may want to hold."""

    def __call__(self) -> None:
        """Do it."""


def test_a_subclass_may_have_fields_of_any_type() -> None:
    """Only the types that a request itself has are checked."""

    @dataclasses.dataclass(frozen=True)
    class Local:
        """Not found where the hints of the module are evaluated."""

    @dataclasses.dataclass(frozen=True)
    class Mine(RunRequest):
        """A frontend's own."""

        table: dict[str, int] = dataclasses.field(default_factory=dict)
        call: Callable[[], None] | None = None
        hook: Hook | None = None
        anything: typing.Any = None
        rows: tuple[tuple[str, ...], ...] = ()
        pair: tuple[str, int] = ("", 0)
        mode: typing.Literal["a", "b"] = "a"
        local: Local | None = None
        path: Path = Path("/")
        ratio: float = 0.0
        word: typing.Optional[str] = None  # noqa: UP045 - the older form
        count: int = 0
        later: int = dataclasses.field(init=False)

    made = Mine(
        ("id",),
        "/r",
        table={"a": 1},
        call=print,
        hook=print,
        anything=object(),
        rows=(("a", "b"), ()),
        pair=("a", 1),
        mode="b",
        local=Local(),
        path=Path("/x"),
        ratio=1,
        word="w",
        count=5,
    )
    assert (made.rows, made.pair, made.ratio, made.local) == ((("a", "b"), ()), ("a", 1), 1, Local())
    for fields, message in (
        ({"count": "5"}, "Mine.count: int is wanted, not '5'"),
        ({"ratio": "1"}, "Mine.ratio: float is wanted, not '1'"),
        ({"ratio": True}, "Mine.ratio: float is wanted, not True"),
        ({"word": 1}, "Mine.word: str or None is wanted, not 1"),
        ({"args": "id"}, "Mine.args: a tuple of str is wanted, not 'id'"),
    ):
        with pytest.raises(RequestError) as caught:
            Mine(**{"args": ("id",), "rootfs": "/r", **fields})
        assert str(caught.value) == message


def test_a_message_about_any_container() -> None:
    class Pair(typing.NamedTuple):
        left: int

    for value in (Pair(1), collections.OrderedDict(a=1), collections.Counter("a")):
        with pytest.raises(RequestError, match=r"^RunRequest\.user: str is wanted, not (a list|an object)$"):
            RunRequest(("id",), "/r", user=value)  # type: ignore[arg-type]


def test_a_copy_with_a_wrong_value_is_refused_too() -> None:
    with pytest.raises(RequestError, match=r"^RunRequest\.user"):
        dataclasses.replace(RunRequest(("id",), "/r"), user=1000)  # type: ignore[arg-type]


def test_the_check_costs_next_to_nothing() -> None:
    """Microseconds, beside milliseconds for the step; the bound is far above that, for slow machines."""
    best = min(timeit.repeat(lambda: RunRequest(("id",), "/r", env=("A=b",) * 10), number=100, repeat=10))
    assert best / 100 < 0.001
