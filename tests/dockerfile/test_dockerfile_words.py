"""Quoting and variables."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildfront.dockerfile import arguments, shell_pattern, words
from buildfront.errors import BuildError

VARIABLES = {
    "x": "1",
    "empty": "",
    "long_name9": "L",
    "X": "upper",
    "é1": "accent",
    "9": "nine",
    "p": "/a/b.tar.gz",
    "f": "foobarbaz",
}


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
        ("$@ $* $# $? $- $! $0 $9 ${9}", "       nine nine"),
        ("$$ $$x", " x"),
        ("${@} ${*:-a} ${#} ${?} ${-} ${$} ${!-b}", " a     b"),
        ("$é1 ${é1} $é1\u0301", "accent accent accent\u0301"),
        ("\ufeffa\ufeff", "a\ufeff"),
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
        ("${x:#a}", "unknown modifier ':#'"),
        ("${x:%a}", "unknown modifier ':%'"),
        ("${x/a}", "the form is .*name/pattern/text"),
        ("${x/a/b", "closing } is missing"),
        ("${x//}", "closing } is missing|the form is"),
        ("${x#\\a}", "has a .* before 'a'"),
        ("${x#\\", "closing } is missing"),
        ("${a.b}", r"unknown modifier '\."),
        ("${#x}", "unknown modifier 'x'"),
        ("${x=a}", "unknown modifier '='"),
        ("${x:-'}", "closing ' is missing"),
        ("${x:1}", "unknown modifier ':1'"),
        ("${x^}", r"unknown modifier '\^'"),
    ],
)
def test_refused(text, message):
    with pytest.raises(BuildError, match=message):
        words.expand(text, VARIABLES)


def test_other_escape_character():
    assert words.expand(r"C:\dir`$x", VARIABLES, "`") == r"C:\dir$x"
    assert words.expand(r'"a\`""', VARIABLES, "`") == r"a\""
    assert arguments.split("a` b c", "`") == ["a` b", "c"]


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
    assert arguments.split(f"'{text}' x") == [f"'{text}'", "x"]


@given(st.lists(st.text(alphabet="ab$\"'\\ ", min_size=1)))
def test_split_of_quoted_words(items):
    def quote(text):
        for char in '\\"$':
            text = text.replace(char, "\\" + char)
        return f'"{text}"'

    found = arguments.split("  ".join(quote(item) for item in items))
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
        ("=1", [("", "1")]),
        ("a=1\xa0b=2", [("a", "1"), ("b", "2")]),
        ('a="1', [("a", '"1')]),
        ("a=1\\", [("a", "1")]),
        ('a="1\\', [("a", '"1')]),
        ("a='1\\", [("a", "'1\\")]),
        ("'a b'=1", [("'a b'", "1")]),
    ],
)
def test_pairs(text, expected):
    assert arguments.pairs(text, "ENV") == (expected, False)
    assert arguments.pairs(text, "LABEL") == (expected, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c", ("a", "b c")),
        ("a\tb c", ("a", "b c")),
        ("a   b=c", ("a", "b=c")),
        ("'a' 'b", ("'a'", "'b")),
        ("a b\\", ("a", "b\\")),
    ],
)
def test_the_old_form(text, expected):
    assert arguments.pairs(text, "ENV") == ([expected], True)


def test_no_pairs():
    assert arguments.pairs("", "ENV") == ([], False)
    assert arguments.pairs("\\", "ENV") == ([], False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a': the form is NAME=VALUE"),
        ("a\xa0b", "the form is NAME=VALUE"),
        ("a=1 b", "'b': the form is NAME=VALUE"),
    ],
)
def test_bad_pairs(text, message):
    with pytest.raises(BuildError, match=message):
        arguments.pairs(text, "ENV")


# patterns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${p#*/}", "a/b.tar.gz"),
        ("${p##*/}", "b.tar.gz"),
        ("${p%.*}", "/a/b.tar"),
        ("${p%%.*}", "/a/b"),
        ("${p#x} ${p%x}", "/a/b.tar.gz /a/b.tar.gz"),
        ("${f#f*b} ${f##f*b} ${f#?o} ${f%?a?}", "arbaz az obarbaz foobar"),
        ("${f#} ${f%%}", "foobarbaz foobarbaz"),
        ("${f##*}${f#*}", "foobarbaz"),
        ("${unset#a}${empty%b}", ""),
        ("${f/o/0} ${f//o/0} ${f/b*/X} ${f//ba?/<>}", "f0obarbaz f00barbaz fooX foo<><>"),
        ("${f//}/x}", "foobarbaz"),
        ("${p//\\//-} ${p/\\//\\/}", "-a-b.tar.gz \\/a/b.tar.gz"),
        ("${f/x/y} ${f//o/}", "foobarbaz fbarbaz"),
        ("${f#f${unset:-oo}} ${f/$X/$x} ${f//${unset:-b}/${x}${x}}", "barbaz foobarbaz foo11ar11az"),
        ("${f//o/$X'$0'}", "fupperoupperobarbaz"),
        ("${f//b/'$$'}", "foo$ar$az"),
        ("${f/b/'$0'}", "foo$0arbaz"),
        ("${x//\\*/y}", "1"),
        ("${x///-}", "-1-"),
        ("${x//*/-}", "-"),
        ("${x/*/-}", "-"),
        ("${empty//*/-}", "-"),
        ('"${p##*/}"', "b.tar.gz"),
        ("${f#'f'}", "oobarbaz"),
        ("${f%[z]}", "foobarbaz"),
        ("${f%'%ba*'}", "foo"),
    ],
)
def test_patterns(text, expected):
    assert words.expand(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("pattern", "value", "shortest", "longest"),
    [
        ("a*b", "a\nbab", -1, -1),
        ("a*b", "acb\nb", 3, 3),
        ("a\n*b", "a\nxbb", 4, 5),
        ("*a*?c", "xaabcabc", 5, 8),
        ("**", "ab", 0, 2),
        ("?", "", -1, -1),
        ("", "a", 0, 0),
        ("*\n", "ab\nc\n", 3, 3),
    ],
)
def test_stars_reach_the_end_of_a_line(pattern, value, shortest, longest):
    compiled = shell_pattern.ShellPattern(pattern)
    assert compiled.prefix(value, longest=False) == shortest
    assert compiled.prefix(value, longest=True) == longest


def _expression(pattern, star):
    out = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
            out.append(re.escape(pattern[at]))
        else:
            out.append({"*": star, "?": "."}.get(char) or re.escape(char))
        at += 1
    return "".join(out)


PATTERN = st.lists(st.sampled_from(["a", "b", "\n", "*", "?", "\\*", "\\\\", "["]), max_size=6).map("".join)
VALUE = st.text(alphabet="ab\n*[\\", max_size=10)


@given(PATTERN, VALUE)
def test_a_pattern_is_what_a_regular_expression_says(pattern, value):
    """The obvious translation, which would take very long for some patterns."""
    compiled = shell_pattern.ShellPattern(pattern)
    for longest, star in ((False, ".*?"), (True, ".*")):
        found = re.match(_expression(pattern, star), value)
        assert compiled.prefix(value, longest=longest) == (-1 if found is None else found.end())
    found = re.search(_expression(pattern, ".*"), value)
    assert compiled.search(value, 0) == (None if found is None else found.span())


def test_the_value_of_a_pattern_is_bounded():
    with pytest.raises(BuildError, match="more than 65536 characters"):
        words.expand("${a#b}", {"a": "a" * 70_000})
    with pytest.raises(BuildError, match="too long for the value"):
        words.expand("${a#*" + "?" * 30_000 + "b}", {"a": "a" * 60_000})
    with pytest.raises(BuildError, match="the replacements make a value too long"):
        words.expand("${a//?/$b}", {"a": "a" * 60_000, "b": "b" * 60})


# what else is asked of a word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b", ("a", "b")),
        ("a\xa0b", ("a", "b")),
        ("$s", ("1", "2")),
        ("x${s}y", ("x1", "2y")),
        ('x"${s}"y', ("x1 2y",)),
        ("a\\ b 'c d'", ("a b", "c d")),
        ("$empty ''", ()),
        ("a${unset:-b}c", ("bc",)),  # the a is lost, in BuildKit as well
    ],
)
def test_words_are_split_after_variables_were_replaced(text, expected):
    assert words.expand_words(text, {"s": "1 2", "empty": ""}) == expected


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("'a' \"$x\"", {"raw_quotes": True}, "'a' \"1\""),
        (r'\a "\b\"" ' + r"'\c'", {"raw_escapes": True}, r"\a \\b\" \c"),
        ("'$x' \"$x\"", {"plain_quotes": True}, "'1' \"1\""),
        (r"\$x \\ \a", {"plain_quotes": True}, r"$x \ a"),
        (
            "$x $y ${y} ${y:-$x} ${y#a} ${y/a/b} ${y:1}",
            {"keep_unset": True},
            "1 $y ${y} ${y:-1} ${y#a} ${y/a/b} ${y:1}",
        ),
    ],
)
def test_modes(text, options, expected):
    assert words.process(text, VARIABLES, **options).text == expected


def test_the_content_of_a_document():
    assert words.expand_document("$x '$x' \"\\$x\" it's\n", VARIABLES) == "1 '1' \"$x\" it's\n"


def test_names_with_a_value_and_without():
    found = words.process("$x ${y:-$z} ${empty+a}", VARIABLES)
    assert found.matched == {"x", "empty"}
    assert found.unmatched == {"y", "z"}


# the shell


SHELL = shutil.which("dash") or shutil.which("sh")
SHARED = st.lists(
    st.one_of(
        st.sampled_from(["a", "-", ".", "\\$", "'q r'", '"$x"', "$x", "${x}", "$X", "${unset:-d}", '"\\""']),
        st.builds(
            lambda name, operator, word: f"${{{name}{operator}{word}}}",
            st.sampled_from(["x", "X", "f", "p", "empty", "unset"]),
            st.sampled_from([":-", "-", ":+", "+", "#", "##", "%", "%%"]),
            st.lists(st.sampled_from(["a", "b", "*", "?", "$x", "/", "oo", "\\*"]), max_size=3).map("".join),
        ),
    ),
    max_size=4,
).map("".join)


@pytest.mark.skipif(SHELL is None, reason="needs a shell")
@settings(max_examples=60, deadline=None)
@given(st.lists(SHARED, min_size=20, max_size=20))
def test_expansion_agrees_with_the_shell(texts):
    """On what both have; outside of quotation marks a shell would also split words and look for files."""
    names = {name: VARIABLES[name] for name in ("x", "X", "f", "p", "empty")}
    script = "set -f; IFS=\n" + "".join(f"v={text}\nprintf '%s\\0' \"$v\"\n" for text in texts)
    done = subprocess.run([SHELL, "-c", script], capture_output=True, env=names, check=True)
    assert [words.expand(text, names) for text in texts] == done.stdout.decode().split("\0")[:-1]
