"""Quoting and variables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.dockerfile import words
from buildfront.errors import BuildError

VARIABLES = {"x": "1", "empty": "", "long_name9": "L", "X": "upper"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("", ""),
        ("$x", "1"),
        ("${x}", "1"),
        ("$X$x", "upper1"),
        ("a$x.b", "a1.b"),
        ("$long_name9-", "L-"),
        ("${x}y", "1y"),
        ("$xy", ""),
        ("$unset", ""),
        ("${unset}", ""),
        (r"\$x", "$x"),
        (r"\\$x", "\\1"),
        (r"a\ b", "a b"),
        ("a\\", "a"),
        ("$", "$"),
        ("a$", "a$"),
        ("$.x", "$.x"),
        ("$1b", "b"),
        ("$12b", "b"),
        ("$@", ""),
        ("'$x'", "$x"),
        (r"'\n'", r"\n"),
        ("'a'b", "ab"),
        ("'\"'", '"'),
        ('"$x"', "1"),
        ('"${x}"', "1"),
        (r'"\$x"', "$x"),
        (r'"\""', '"'),
        (r'"\n"', r"\n"),
        (r'"\\"', "\\"),
        ('"it\'s"', "it's"),
        ('a"b"c', "abc"),
        ("${unset:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${x:-d}", "1"),
        ("${unset-d}", "d"),
        ("${empty-d}", ""),
        ("${x-d}", "1"),
        ("${unset:-}", ""),
        ("${unset:-$x}", "1"),
        ("${unset:-${x}}", "1"),
        ("${unset:-${empty:-deep}}", "deep"),
        ("${unset:-'$x'}", "$x"),
        ('"${unset:-a b}"', "a b"),
        (r"${unset:-\}}", "}"),
        ("${x:+a}", "a"),
        ("${x:+$X}", "upper"),
        ("${empty:+a}", ""),
        ("${empty+a}", "a"),
        ("${unset:+a}", ""),
        ("${unset+a}", ""),
        ("${x:?no}", "1"),
        ("${empty?no}", ""),
        ("é$x", "é1"),
    ],
)
def test_expand(text, expected):
    assert words.expand(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${unset:?give it}", "unset: give it"),
        ("${empty:?give it}", "empty: give it"),
        ("${unset?}", "unset: the variable is not set"),
        ("${x", "closing } is missing"),
        ("${x:-a", "closing } is missing"),
        ("${x:", "closing } is missing"),
        ("${}", "name is missing"),
        ("${:-a}", "name is missing"),
        ("${{x}}", "name is missing"),
        ("'a", "closing ' is missing"),
        ('"a', 'closing " is missing'),
        ("${x#a}", "'#'.*not supported"),
        ("${x##a}", "'#'.*not supported"),
        ("${x%a}", "'%'.*not supported"),
        ("${x/a/b}", "'/'.*not supported"),
        ("${x:1}", "':1'.*not supported"),
        ("${x^}", r"'\^'.*not supported"),
    ],
)
def test_refused(text, message):
    with pytest.raises(BuildError, match=message):
        words.expand(text, VARIABLES)


def test_other_escape_character():
    assert words.expand(r"C:\dir`$x", VARIABLES, "`") == r"C:\dir$x"
    assert words.expand(r'"a\`""', VARIABLES, "`") == r"a\""
    assert words.split("a` b c", "`") == ["a` b", "c"]


def test_names_that_were_looked_up():
    used = set()
    words.expand("$x ${y:-$z} '$not'", {"y": "1"}, used=used)
    assert used == {"x", "y", "z"}


@given(st.text().filter(lambda text: not set(text) & set("$'\"\\")))
def test_plain_text_is_its_own_expansion(text):
    assert words.expand(text, {"a": "b"}) == text


@given(st.text())
def test_expand_gives_text_or_a_build_error(text):
    try:
        words.expand(text, {"a": "b"})
    except BuildError:
        pass


@given(st.text(alphabet=st.characters(exclude_characters="'", exclude_categories=["Cs"])))
def test_single_quotes_are_literal(text):
    assert words.expand(f"'{text}'", {"a": "b"}) == text
    assert words.split(f"'{text}' x") == [f"'{text}'", "x"]


@given(st.lists(st.text(alphabet="ab$\"'\\ ", min_size=1)))
def test_split_of_quoted_words(items):
    def quote(text):
        for char in '\\"$':
            text = text.replace(char, "\\" + char)
        return f'"{text}"'

    found = words.split("  ".join(quote(item) for item in items))
    assert [words.expand(word, {}) for word in found] == items


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", [("a", "1")]),
        ("a=1 b=2", [("a", "1"), ("b", "2")]),
        ("a=\"1 2\" b='3 4'", [("a", '"1 2"'), ("b", "'3 4'")]),
        (r"a=1\ 2", [("a", r"1\ 2")]),
        ("a=", [("a", "")]),
        ("a=b=c", [("a", "b=c")]),
        ("a b c", [("a", "b c")]),
        ("a\tb c", [("a", "b c")]),
        ("a   b=c", [("a", "b=c")]),
    ],
)
def test_pairs(text, expected):
    assert words.pairs(text, "ENV") == expected
    assert words.pairs(text, "LABEL") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs at least one"),
        ("a", "the form is NAME=VALUE"),
        ("a=1 b", "'b': the form is NAME=VALUE"),
        ("=1", "name before = is empty"),
        ('a="1', 'closing " is missing'),
    ],
)
def test_bad_pairs(text, message):
    with pytest.raises(BuildError, match=message):
        words.pairs(text, "ENV")
