"""WWW-Authenticate headers and tokens of any shape."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.registry.challenge import challenges, check_extent, read_object, read_token

CASES = {
    'Bearer realm="https://a/t",service="s",scope="x:y:z"': [
        ("bearer", {"realm": "https://a/t", "service": "s", "scope": "x:y:z"})
    ],
    "BEARER REALM=https://a/t?b=c , Service=s": [("bearer", {"realm": "https://a/t?b=c", "service": "s"})],
    'Basic realm="a, b", Bearer realm="c"': [("basic", {"realm": "a, b"}), ("bearer", {"realm": "c"})],
    'Negotiate, Basic realm="x"': [("negotiate", {}), ("basic", {"realm": "x"})],
    "Negotiate YIIabc==, NTLM TlR": [("negotiate", {}), ("ntlm", {})],
    'Basic realm="x" Bearer realm="y"': [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
    r'Basic realm="a\"b\\c"': [("basic", {"realm": r'a"b\c'})],
    'Bearer realm = "x" ,, service = y,': [("bearer", {"realm": "x", "service": "y"})],
    'Bearer realm="first",realm="second"': [("bearer", {"realm": "first"})],
    'Bearer realm="never ends': [("bearer", {})],
    'Bearer realm="a"b': [("bearer", {"realm": "a"}), ("b", {})],
    "Bearer realm=": [("bearer", {})],
    "Bearer =x": [],
    'realm="x"': [],
    "": [],
    ",,, ,": [],
    "=": [],
    '"': [],
    "Basic": [("basic", {})],
    'Bearer realm=""': [("bearer", {"realm": ""})],
}


@pytest.mark.parametrize("text", list(CASES))
def test_challenges(text) -> None:
    assert challenges([text]) == CASES[text]


def test_several_headers() -> None:
    found = challenges(["Negotiate", 'broken "', 'Bearer realm="x"'])
    assert [item.scheme for item in found] == ["negotiate", "broken", "bearer"]


def test_a_huge_one_is_refused() -> None:
    with pytest.raises(BuildError, match="more than 16384 bytes"):
        challenges(["x" * 10_000, "y" * 10_000])


@given(st.lists(st.text(st.sampled_from('ab=", \t\\/\xff'), max_size=40), max_size=3))
def test_any_header_is_understood_or_ends(texts) -> None:
    for scheme, parameters in challenges(texts):
        assert scheme == scheme.lower() and scheme
        assert all(name == name.lower() for name in parameters)


@pytest.mark.parametrize(
    "piece", ['"', "\\", '"\\', "=", "a=", 'a="', "a ", ", ", "a,", '\\"', 'a="b"', "a==", "\t"]
)
def test_no_header_takes_long(piece) -> None:
    began = time.process_time()
    for start in ("", "Bearer ", 'Bearer realm="'):
        challenges([start + piece * (16_000 // len(piece))])
    assert time.process_time() - began < 5


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["token", "access_token", "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_token_or_an_error(value) -> None:
    try:
        token = read_token(json.dumps(value).encode(), "it")
    except BuildError:
        return
    assert token.isascii() and token.isprintable() and " " not in token


@given(st.binary(max_size=50))
def test_any_bytes_are_an_object_or_an_error(data) -> None:
    try:
        assert isinstance(read_object(data, "it"), dict)
    except BuildError as error:
        assert error.what in ("it is not JSON", "it is not a JSON object")


def test_documents_of_too_many_parts() -> None:
    for data in (b"[" + b"{}," * 200_000 + b"{}]", b"[" * 300_001, b"[" + b"1," * 300_001 + b"1]"):
        with pytest.raises(BuildError, match="more than 300000 parts"):
            check_extent(data, "it")
    check_extent(
        b'{"layers":[' + b",".join([b'{"digest":"x","size":1,"mediaType":"y"}'] * 10_000) + b"]}", "it"
    )
