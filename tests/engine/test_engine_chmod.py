"""The modes of --chmod: what they do, and the same as chmod(1) where both know them."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildfront.engine.ops.chmod import parse
from buildfront.errors import BuildError

# text, mode before, mode of a file, mode of a directory
TABLE = [
    ("755", 0o644, 0o755, 0o755),
    ("0644", 0o7777, 0o644, 0o644),
    ("0", 0o755, 0, 0),
    ("00000000755", 0o644, 0o755, 0o755),
    ("7777", 0o644, 0o7777, 0o7777),
    ("u=rwX,go=rX", 0o600, 0o644, 0o755),
    ("u=rwX,go=rX", 0o700, 0o755, 0o755),
    ("g=u", 0o640, 0o660, 0o660),
    ("o=g,u=rw", 0o754, 0o655, 0o655),
    ("a=r", 0o755, 0o444, 0o444),
    ("u+s,+t", 0o755, 0o5755, 0o5755),
    ("+x", 0o644, 0o755, 0o755),
    ("a-w", 0o666, 0o444, 0o444),
    ("-x", 0o755, 0o644, 0o644),
    ("=", 0o6755, 0, 0),
    ("=", 0o1755, 0o1000, 0o1000),
    ("u=", 0o4755, 0o055, 0o055),
    ("u+", 0o644, 0o644, 0o644),
    ("+", 0o644, 0o644, 0o644),
    ("u+x-w", 0o644, 0o544, 0o544),
    ("u=r,u+X", 0o755, 0o555, 0o555),  # X looks at the mode before all clauses
    ("a-X", 0o755, 0o644, 0o644),
    ("a+X,a-x", 0o755, 0o644, 0o644),
    ("g-u", 0o764, 0o704, 0o704),
    ("o+u", 0o701, 0o707, 0o707),
    ("ug=o", 0o004, 0o444, 0o444),
    ("=u", 0o700, 0o777, 0o777),
    ("g=ru", 0o500, 0o550, 0o550),  # the copy takes the place of r
    ("g=ur", 0o500, 0o540, 0o540),
    ("g=u", 0o2700, 0o2770, 0o2770),  # a copy is of three bits
    ("+s", 0o755, 0o6755, 0o6755),
    ("o+s", 0o755, 0o755, 0o755),
    ("u-s,g-s", 0o6755, 0o755, 0o755),
    ("o+t", 0o755, 0o755, 0o755),
    ("a=rwxt", 0o000, 0o1777, 0o1777),
    ("+xt", 0o644, 0o1644, 0o1644),  # with no letter before, t makes the clause one about the sticky bit
    ("=t", 0o755, 0o1755, 0o1755),
    ("ugo+rwx", 0o000, 0o777, 0o777),
    ("uuu+r", 0o000, 0o400, 0o400),
]


@pytest.mark.parametrize(("text", "before", "file", "directory"), TABLE)
def test_what_a_mode_does(text: str, before: int, file: int, directory: int) -> None:
    mode = parse(text)
    assert mode is not None
    assert oct(mode.applied(before, directory=False)) == oct(file)
    assert oct(mode.applied(before, directory=True)) == oct(directory)


def test_no_text_is_no_mode() -> None:
    assert parse("") is None


@pytest.mark.parametrize("text", ["888", "77777", "10000", "0o755", "7 5", "755,u+x", "1" * 5000])
def test_a_number_that_is_no_mode(text: str) -> None:
    with pytest.raises(BuildError, match=r"--chmod=.*: an octal mode has digits from 0 to 7"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "clause", "why"),
    [
        ("x", "x", "one of + - ="),
        ("u", "u", "one of + - ="),
        ("u+x,", "", "one of + - ="),
        (",u+x", "", "one of + - ="),
        ("-1", "-1", "'1' is not one of"),
        ("u=rw,g=q", "g=q", "'q' is not one of"),
        ("u=rw, g=r", " g=r", "one of + - ="),
        ("u+x a", "u+x a", "' ' is not one of"),
        ("u+a", "u+a", "'a' is not one of"),
        ("²", "²", "one of + - ="),
    ],
)
def test_a_clause_that_is_none_is_named(text: str, clause: str, why: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse(text)
    assert f"--chmod={text}: the clause {clause!r} is wrong" in caught.value.what and why in caught.value.what
    assert "u=rwX,go=rX" in caught.value.hint


clauses = st.builds(
    "{}{}{}".format,
    st.sampled_from(["u", "g", "o", "a", "ug", "go", "uo", "ugo"]),
    st.sampled_from("+-="),
    st.one_of(st.text("rwx", max_size=3), st.sampled_from("ugo")),
)
texts = st.lists(clauses, min_size=1, max_size=4).map(",".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, before=st.integers(0, 0o777), directory=st.booleans())
def test_the_same_as_chmod(tmp_path: Path, text: str, before: int, directory: bool) -> None:
    """X and the special bits are left out: chmod treats them in ways of its own."""
    place = tmp_path / ("directory" if directory else "file")
    place.mkdir(exist_ok=True) if directory else place.touch()
    place.chmod(before)
    subprocess.run(["chmod", "--", text, place], check=True)
    mode = parse(text)
    assert mode is not None
    assert oct(mode.applied(before, directory=directory)) == oct(stat.S_IMODE(place.stat().st_mode))


@given(text=st.text("ugoarwxXst+-=,01789 ", max_size=20), mode=st.integers(0, 0o7777))
def test_any_text_is_a_mode_or_an_error(text: str, mode: int) -> None:
    try:
        found = parse(text)
    except BuildError:
        return
    assert found is None or 0 <= found.applied(mode, directory=False) <= 0o7777
