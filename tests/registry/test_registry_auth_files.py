"""Files of credentials: whose entry counts, and what is said of those that can't be understood."""

from __future__ import annotations

import base64
import json
import os
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.registry.auth import credentials


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def entry(name: str, text: str) -> str:
    return json.dumps({"auths": {name: {"auth": encoded(text)}}})


@pytest.fixture
def places(home, monkeypatch, tmp_path):
    """The files, in the order in which they count."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    out = [
        tmp_path / "auth.json",
        tmp_path / "run/containers/auth.json",
        home / ".config/containers/auth.json",
        tmp_path / "docker/config.json",
    ]
    for path in out:
        path.parent.mkdir(parents=True, exist_ok=True)
    return out


def test_the_first_file_with_an_entry_counts(places) -> None:
    assert credentials("r.example") is None
    for number in (3, 2, 1, 0):
        places[number].write_text(entry("r.example", f"user{number}:pass:word"))
        assert credentials("r.example") == (f"user{number}", "pass:word")
    assert credentials("other.example") is None


@pytest.mark.parametrize(
    "name", ["r.example:5", "https://r.example:5", "https://r.example:5/v1/", "https://r.example:5/v2/"]
)
def test_names_of_entries(places, name) -> None:
    places[0].write_text(entry(name, "a:b"))
    assert credentials("r.example:5") == ("a", "b")
    for other in ("r.example", "r.example:50", "r.example:6", "xr.example:5", "example:5"):
        assert credentials(other) is None


def test_docker_io_has_an_old_name(places) -> None:
    places[0].write_text(entry("https://index.docker.io/v1/", "a:b\0\0"))
    assert credentials("docker.io") == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "  \n",
            "{}",
            '{"auths": null}',
            '{"auths": {}}',
            '{"auths": {"r": null}}',
            '{"auths": {"r": {}}}',
        ),
        *('{"auths": {"r": {"auth": ""}}}', '{"auths": {"r": {"auth": null}}, "credsStore": "x"}'),
        *('{"auths": {"other": 7}}', '{"auths": {"other": {"auth": 7}}}', '{"credHelpers": {"r": "x"}}'),
    ],
)
def test_what_holds_nothing_for_us_is_passed_by(places, text) -> None:
    places[0].write_text(text)
    assert credentials("r") is None
    places[1].write_text(entry("r", "a:b"))
    assert credentials("r") == ("a", "b")


BAD = {
    "not JSON": (b"{", "is not JSON"),
    "not UTF-8": (b'{"auths": "\xff"}', "is not JSON"),
    "a list": (b"[]", "is not a JSON object"),
    "deep": (b"[" * 100_000, "is not JSON"),
    "auths is a list": (b'{"auths": []}', "auths is not an object"),
    "auths is a string": (b'{"auths": "r"}', "auths is not an object"),
    "auths is a number": (b'{"auths": 1}', "auths is not an object"),
    "entry is a string": (b'{"auths": {"r": "x"}}', "entry for r is not an object"),
    "entry is false": (b'{"auths": {"r": false}}', "entry for r is not an object"),
    "auth is a number": (b'{"auths": {"r": {"auth": 7}}}', "auth of r is not a string"),
    "auth is a list": (b'{"auths": {"r": {"auth": []}}}', "auth of r is not a string"),
    "not base64": (b'{"auths": {"r": {"auth": "a:b"}}}', "not base64"),
    "odd base64": (b'{"auths": {"r": {"auth": "abcde"}}}', "not base64"),
    "not ASCII": ('{"auths": {"r": {"auth": "é"}}}'.encode(), "not base64"),
    "no colon": (json.dumps({"auths": {"r": {"auth": encoded("ab")}}}).encode(), "USER:PASSWORD"),
    "no user": (json.dumps({"auths": {"r": {"auth": encoded(":b")}}}).encode(), "USER:PASSWORD"),
    "not UTF-8 inside": (
        json.dumps({"auths": {"r": {"auth": encoded(b"a:\xff")}}}).encode(),
        "USER:PASSWORD",
    ),
    "huge": (b" " * (5 << 20), "larger than"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_bad_file_is_named(places, case) -> None:
    data, words = BAD[case]
    places[0].write_bytes(data)
    places[1].write_text(entry("r", "a:b"))
    with pytest.raises(BuildError, match=words) as error:
        credentials("r")
    assert str(places[0]) in error.value.what and "REGISTRY_AUTH_FILE" in error.value.hint


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket", "device", "loop"])
def test_a_file_that_is_none_is_named_at_once(places, kind, tmp_path, monkeypatch) -> None:
    path = str(places[0])
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "loop":
        os.symlink(path, path)
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        socket.socket(socket.AF_UNIX).bind(path)
    with pytest.raises(BuildError, match="can't be used"):
        credentials("r")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["auths", "auth", "r", "https://r/v2/", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON | st.builds(lambda value: {"auths": {"r": value}}, JSON))
def test_any_document_is_credentials_or_an_error(places, value) -> None:
    places[0].write_text(json.dumps(value))
    try:
        found = credentials("r")
    except BuildError:
        return
    assert found is None or all(isinstance(item, str) for item in found)
