"""Sizes and lists of ``key=value``: the grammars that options share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_step import RequestError, parse_size, split_values


@given(st.integers(0, 10**15), st.sampled_from(["", "b", "k", "m", "g", "t", "p"]), st.booleans())
def test_a_size_is_its_number_times_its_unit(number, unit, spaced):
    factor = 1 if unit in ("", "b") else 1 << 10 * ("kmgtp".index(unit) + 1)
    texts = [f"{number}{' ' if spaced and unit else ''}{unit}"]
    if factor > 1:
        texts += [text + end for text in texts for end in ("b", "ib")]
    for text in texts:
        if number * factor >= 1 << 63:
            with pytest.raises(RequestError, match="larger than 9223372036854775807 bytes"):
                parse_size(text)
            continue
        assert parse_size(text) == parse_size(text.upper()) == number * factor


def test_the_largest_size():
    assert parse_size("9223372036854775807") == parse_size(" 9223372036854775807b ") == (1 << 63) - 1
    for text in ("9223372036854775808", "8192p", "999999999999999999t"):
        with pytest.raises(RequestError, match=f"^shm size '{text}': it is larger than"):
            parse_size(text, "shm size")


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_is_quoted(text):
    try:
        assert parse_size(text) >= 0
    except RequestError as error:
        assert repr(text) in str(error)


def test_parts_of_a_list_are_quoted_as_in_csv():
    assert split_values('a=1,"b=2,3",c') == ["a=1", "b=2,3", "c"]
    with pytest.raises(RequestError, match="double quotes"):
        split_values('"a=1')
