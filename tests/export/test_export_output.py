"""The grammar of ``-o``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.export.output import TYPES, parse_output
from buildfront.options import Output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out", Output("local", "out")),
        ("a,b", Output("local", "a,b")),
        ("-", Output("tar", "-")),
        ("type=oci,dest=image.tar", Output("oci", "image.tar")),
        ("type=oci,dest=layout,tar=false", Output("oci", "layout", tar=False)),
        ("type=docker,dest=-,name=app:1", Output("docker", "-", name="app:1")),
        ("type=local,dest=out", Output("local", "out")),
        ("type=tar,dest=-", Output("tar", "-")),
        ("type=registry", Output("registry", push=True)),
        ("type=registry,push=false", Output("registry", push=True)),
        ("type=image,name=app,push=true", Output("image", name="app", push=True)),
        ("type=image", Output("image")),
        ("dest=image.tar,type=oci", Output("oci", "image.tar")),
        ("type=oci,dest=a=b", Output("oci", "a=b")),
        ("type=oci,dest=first,dest=last", Output("oci", "last")),
    ],
)
def test_an_output_is_read(text: str, expected: Output) -> None:
    assert parse_output(text) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "-o is empty", "for instance"),
        ("type=oic,dest=a", "unknown type 'oic'", "known are oci, docker"),
        ("dest=a", "unknown type ''", "known are"),
        ("type=oci", "dest is missing", "type=oci,dest=PATH"),
        ("type=tar,dest=", "dest is missing", "type=tar,dest=PATH"),
        ("type=local,dest=-", "can't go to stdout", "type=tar"),
        ("type=oci,dest=a,tar=maybe", "tar is true or false", ""),
        ("type=image,push=yes", "push is true or false", ""),
        ("type=oci,dset=a", "'dset=a' is not understood", "dest"),
        ("type=oci,dest=a,", "'' is not understood", "known are"),
        ("type=oci,push", "'push' is not understood", "push"),
    ],
)
def test_a_malformed_output_is_quoted(text: str, message: str, hint: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse_output(text)
    assert message in caught.value.what
    assert hint in caught.value.hint
    assert repr(text) in caught.value.what or not text


@given(
    st.text() | st.lists(st.sampled_from(["type=", *TYPES, "dest=", "a", ",", "=", "push=true"])).map("".join)
)
def test_any_text_is_an_output_or_an_error(text: str) -> None:
    try:
        output = parse_output(text)
    except BuildError:
        return
    assert output.type in TYPES
    assert output.dest or output.type in ("registry", "image")
