"""References, platforms, chain IDs."""

import hashlib

import pytest

from buildfront.errors import BuildError
from buildfront.image import platform, reference
from buildfront.image.descriptor import chain_id

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}", f"debian:12@{DIGEST}"),
        ("a_b/c.d-e__f--g", "docker.io/a_b/c.d-e__f--g:latest", "a_b/c.d-e__f--g:latest"),
    ],
)
def test_references(text, full, familiar):
    found = reference.parse(text)
    assert (str(found), found.familiar) == (full, familiar)
    assert reference.parse(str(found)) == found


def test_what_a_registry_is_asked_for():
    assert reference.parse(f"a:1@{DIGEST}").target == DIGEST
    assert reference.parse("a").target == "latest"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:",
        "a:b:c",
        "a b",
        "/a",
        "a/",
        "a//b",
        "-a",
        "a..b",
        "a___b",
        "a:" + "t" * 129,
        "a:.x",
        "a@",
        "a@sha256:abc",
        f"a@{DIGEST}0",
        "a@md5:" + "0" * 32,
        "http://a/b",
        "localhost:/a",
        "localhost:x/a",
        ":5000/a",
        "-.com/a",
        "a.b/../c",
        "$x",
        "a\n",
        "é",
    ],
)
def test_bad_references(text):
    with pytest.raises(BuildError) as caught:
        reference.parse(text)
    assert repr(text) in str(caught.value)


def test_upper_case_is_named():
    with pytest.raises(BuildError, match="names are lower case"):
        reference.parse("docker.io/Debian")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
    ],
)
def test_platforms(text, expected):
    assert platform.normalise(text) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "a/b/c/d"])
def test_bad_platforms(text):
    with pytest.raises(BuildError, match="invalid platform"):
        platform.normalise(text)


def test_platform_documents():
    assert platform.of({"os": "linux", "architecture": "arm", "variant": "v7"}) == "linux/arm/v7"
    assert platform.of({"os": "linux", "architecture": "arm64", "variant": "v8"}) == "linux/arm64"
    assert platform.to_json("linux/arm/v7") == {"os": "linux", "architecture": "arm", "variant": "v7"}
    assert platform.to_json("linux/amd64") == {"os": "linux", "architecture": "amd64"}
    assert platform.normalise(platform.host()) == platform.host()


def test_chain_id_is_as_the_specification_defines_it():
    one, two, three = ("sha256:" + digit * 64 for digit in "123")
    assert chain_id([]) == ""
    assert chain_id([one]) == one
    pair = "sha256:" + hashlib.sha256(f"{one} {two}".encode()).hexdigest()
    assert chain_id([one, two]) == pair
    assert chain_id([one, two, three]) == "sha256:" + hashlib.sha256(f"{pair} {three}".encode()).hexdigest()
