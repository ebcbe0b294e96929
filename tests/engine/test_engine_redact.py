"""Secrets in a step's output: whatever they are and however the output is cut, they do not come through."""

from __future__ import annotations

import base64
import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from buildfront.engine.redact import LONGEST, MASK, SHORTEST, Redactor, words

LETTERS = st.integers(1, 60).flatmap(
    lambda size: st.binary(min_size=size, max_size=size).map(
        lambda data: bytes(b"ab\n \r"[i % 5] for i in data)
    )
)
"""Texts of few letters: their parts are each other's beginnings, ends and overlaps."""
SECRETS = st.lists(st.one_of(LETTERS, st.binary(max_size=40)), max_size=5)


@st.composite
def outputs(draw, secrets=SECRETS):
    """Secrets, what a step prints, with whole and cut secrets in it, and that in chunks."""
    wanted = draw(secrets)
    pieces = []
    for _ in range(draw(st.integers(0, 8))):
        piece = draw(
            st.one_of(LETTERS, st.binary(max_size=20), *([st.sampled_from(wanted)] if wanted else []))
        )
        start, end = draw(st.integers(0, len(piece))), draw(st.integers(0, len(piece)))
        pieces.append(draw(st.sampled_from((piece, piece[start:], piece[:end], piece[start:end]))))
    text = b"".join(pieces)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=len(text) + 1)) | {0, len(text)})
    return wanted, text, [text[start:end] for start, end in pairwise(cuts)]


def shown(wanted: tuple[bytes, ...], chunks: list[bytes]) -> bytes:
    redactor = Redactor(wanted)
    return b"".join(redactor.feed(chunk) for chunk in chunks) + redactor.end()


def by_the_book(wanted: tuple[bytes, ...], text: bytes) -> bytes:
    """From left to right, at each place the longest word: what is to come out, by the simplest program."""
    out, at = b"", 0
    while at < len(text):
        word = max((word for word in wanted if text.startswith(word, at)), key=len, default=b"")
        out += MASK if word else text[at : at + 1]
        at += len(word) or 1
    return out


@given(outputs())
def test_how_the_output_is_cut_changes_nothing(case) -> None:
    """Chunks or one piece, the result is the same, and the one that the simplest program has."""
    secrets, text, chunks = case
    assert shown(words(secrets), chunks) == by_the_book(words(secrets), text)


@given(outputs(st.lists(LETTERS, max_size=5)))
def test_no_word_that_is_looked_for_comes_through(case) -> None:
    """Not even where the parts beside a mask, or the mask with them, could make one (the mask's * is in none here)."""
    secrets, _, chunks = case
    out = shown(words(secrets), chunks)
    assert not [word for word in words(secrets) if word in out]
    for secret in secrets:
        for line in [secret.strip(), *(line.strip() for line in secret.splitlines())]:
            assert len(line) < SHORTEST or line not in out


@given(outputs())
def test_what_is_no_secret_comes_through_unchanged(case) -> None:
    """All of it where no word is in it; else all that is before, between and after the masks, in its order."""
    secrets, text, chunks = case
    wanted = words(secrets)
    out = shown(wanted, chunks)
    if not any(word in text for word in wanted):
        assert out == text
    # Read the output beside the text: each byte is the text's own, or a mask stands for a word.
    ends = {(0, 0)}
    while ends and (len(text), len(out)) not in ends:
        at, shown_to = min(ends)
        ends.discard((at, shown_to))
        if text[at : at + 1] == out[shown_to : shown_to + 1] != b"":
            ends.add((at + 1, shown_to + 1))
        if out.startswith(MASK, shown_to):
            ends |= {(at + len(word), shown_to + len(MASK)) for word in wanted if text.startswith(word, at)}
    assert ends, "the output is no text with words masked"


@given(outputs())
def test_no_byte_of_a_word_is_shown_before_the_word_is_known(case) -> None:
    """What has been shown at any time is a beginning of what is shown at the end: nothing is shown too early."""
    secrets, _, chunks = case
    wanted = words(secrets)
    redactor = Redactor(wanted)
    so_far = b""
    for number, chunk in enumerate(chunks):
        so_far += redactor.feed(chunk)
        assert by_the_book(wanted, b"".join(chunks)).startswith(so_far)
        assert shown(wanted, chunks[: number + 1]).startswith(so_far)


@given(st.lists(st.binary(max_size=40), max_size=5), st.binary(max_size=60))
def test_text_is_not_held_back_without_a_reason(secrets, text) -> None:
    """Only an end that is a word's beginning waits for more."""
    wanted = words(secrets)
    redactor = Redactor(wanted)
    held = len(by_the_book(wanted, text)) - len(redactor.feed(text))
    assert held == 0 or any(word.startswith(text[-held:]) for word in wanted)


def test_what_is_looked_for() -> None:
    assert words([]) == words([b"", b"abc", b" a \n"]) == ()
    assert words([b"pass\n"]) == words([b"\r\n pass \t"]) == (b"pass",)
    assert set(words([b"one1\r\ntwo2\n\nab\n"])) == {b"one1\r\ntwo2\n\nab", b"one1", b"two2"}
    assert words([b"abcd", b"abcd"]) == (b"abcd",)
    assert words([b"\xff\x00\xfe\x01"]) == (b"\xff\x00\xfe\x01",)


def test_a_secret_that_is_too_long_to_be_held_back_is_found_by_its_lines_and_pieces() -> None:
    chance = random.Random(1)
    lines = [base64.b64encode(chance.randbytes(30)) for _ in range(LONGEST // 20)]
    text = b"\n".join(lines)
    assert shown(words([text]), [text]) == b"\n".join([MASK] * len(lines))
    line = base64.b64encode(chance.randbytes(LONGEST * 2))
    assert len(line) > 2 * LONGEST
    assert set(shown(words([line]), [b"<", line[:100], line[100:], b">"])) == set(b"<*>")


def test_a_secret_of_thousands_of_lines_is_found() -> None:
    """As a bundle of certificates is, line by line, and a long log after it; with a look at each word in turn it would
    take hours."""
    chance = random.Random(2)
    lines = [base64.b64encode(chance.randbytes(9)) for _ in range(LONGEST)]
    text = b"\n".join(lines)
    redactor = Redactor(words([text]))
    out = b"".join(redactor.feed(line + b"\n") for line in lines)
    log = b"#12 0.341 Selecting previously unselected package\n" * 5000
    assert out + redactor.feed(log) + redactor.end() == (MASK + b"\n") * len(lines) + log
