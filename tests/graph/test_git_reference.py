"""References to git repositories: which texts are some, and what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.graph.git_reference import GitReference, is_commit, is_http, parse, shown

HUB = "https://github.com/moby/buildkit.git"

NONE = (
    *("https://example.com/", "https://example.com/foo", "https://example.com/foo.git/", ".git", "./.git"),
    *("https://example.com/foo.git.bar", "custom.xyz/moby/buildkit.git", "https://github.com/moby/buildkit"),
    *("http://github.com/docker/docker.git:#branch", "../x.git", "file:///srv/x.git", "ext::sh -c id"),
    *("ftp://example.com/x.git", "github.com:moby/buildkit.git", "git@helloworld.net", "/srv/repo.git", ""),
    *("bad:user@helloworld.net:foo/bar.git", "https://exa mple.com/foo.git", "git://host\n/x", "git@h:a\nb"),
)

FOUND = {
    "https://example.com/foo.git": GitReference("https://example.com/foo.git"),
    "HTTPS://example.com/foo.git": GitReference("https://example.com/foo.git"),
    "https://example.com/foo.git#deadbeef": GitReference("https://example.com/foo.git", "deadbeef"),
    "https://example.com/foo.git#release/1.2": GitReference("https://example.com/foo.git", "release/1.2"),
    "git://example.com/foo": GitReference("git://example.com/foo"),
    "github.com/moby/buildkit": GitReference("https://github.com/moby/buildkit"),
    "github.com/moby/buildkit#master": GitReference("https://github.com/moby/buildkit", "master"),
    "github.com/moby/buildkit?tag=v1": GitReference("https://github.com/moby/buildkit", "refs/tags/v1"),
    "https://foo:bar@github.com/moby/buildkit.git": GitReference(
        "https://foo:bar@github.com/moby/buildkit.git"
    ),
    "git@github.com:moby/buildkit": GitReference("git@github.com:moby/buildkit"),
    "git@github.com:moby/buildkit.git#v1:sub": GitReference("git@github.com:moby/buildkit.git", "v1", "sub"),
    "git@github.com:moby/buildkit.git?subdir=/subdir#v1.0.0": GitReference(
        "git@github.com:moby/buildkit.git", "v1.0.0", "subdir"
    ),
    "ssh://git@host:22/x": GitReference("ssh://git@host:22/x"),
    f"{HUB}#baz/qux:quux/quuz": GitReference(HUB, "baz/qux", "quux/quuz"),
    f"{HUB}#:myfolder": GitReference(HUB, "", "myfolder"),
    f"{HUB}#:../../etc": GitReference(HUB, "", "etc"),
    f"{HUB}?subdir=../../etc": GitReference(HUB, "", "etc"),
    f"{HUB}?ref=v1.0.0&subdir=/subdir": GitReference(HUB, "v1.0.0", "subdir"),
    f"{HUB}?ref=v1#v1": GitReference(HUB, "v1"),
    f"{HUB}?tag=v1.0.0": GitReference(HUB, "refs/tags/v1.0.0"),
    f"{HUB}?branch=refs/heads/v1": GitReference(HUB, "refs/heads/v1"),
    f"{HUB}?mtime=commit": GitReference(HUB, commit_times=True),
    f"{HUB}?mtime=checkout": GitReference(HUB),
    f"{HUB}?keep-git-dir&submodules=false": GitReference(HUB, keep_git_dir=True, submodules=False),
    f"{HUB}?keep-git-dir=0&submodules=": GitReference(HUB, keep_git_dir=False, submodules=True),
    f"{HUB}?fetch-by-commit=true&checksum=deadbeef#refs/heads/b": GitReference(
        HUB, "refs/heads/b", checksum="deadbeef", fetch_by_commit=True
    ),
    f"{HUB}?commit=deadbeef": GitReference(HUB, checksum="deadbeef"),
}

WRONG = {
    f"{HUB}?ref=v1.0.0#v1.2.3": "two values for ref: 'v1.2.3' and 'v1.0.0'",
    f"{HUB}?ref=v1.0.0&tag=v1.2.3": "two values for ref",
    f"{HUB}?tag=v1.0.0&branch=v1.0": "a branch and a tag are given",
    f"{HUB}?subdir=a#:b": "two values for subdir",
    f"{HUB}?mtime=invalid": "mtime=invalid is neither",
    f"{HUB}?fetch-by-commit=invalid": "fetch-by-commit=invalid is neither",
    f"{HUB}?submodules=maybe": "submodules=maybe is neither",
    f"{HUB}?invalid=123": "unknown key 'invalid'",
    f"{HUB}?ref=": "no value for ref",
    f"{HUB}?ref=a&ref=a": "two values for ref",
    f"{HUB}?checksum=xyz": "'xyz' is not the beginning of a commit hash",
    f"{HUB}#--upload-pack=id": "'--upload-pack=id' is not the name of a branch",
    f"{HUB}?branch=a..b": "not the name of a branch",
    "ssh://-oProxyCommand=id/x": "can't begin with a hyphen",
    "ssh://git@-oProxyCommand=id/x": "can't begin with a hyphen",
    "-oProxyCommand@host:x": "can't begin with a hyphen",
}


@pytest.mark.parametrize("text", NONE)
def test_a_text_that_is_no_reference_is_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("text", FOUND)
def test_a_reference_has_its_parts(text: str) -> None:
    assert parse(text, context=True) == FOUND[text]


@pytest.mark.parametrize("text", WRONG)
def test_a_broken_reference_is_an_error_that_says_why(text: str) -> None:
    with pytest.raises(BuildError) as error:
        parse(text)
    assert WRONG[text] in error.value.what


def test_an_unknown_key_gets_a_proposal() -> None:
    with pytest.raises(BuildError) as error:
        parse(f"{HUB}?sub-dir=x")
    assert error.value.hint == "did you mean subdir?"


def test_a_password_is_not_shown() -> None:
    assert shown("https://me:secret@host/x.git") == "https://me:xxxxx@host/x.git"
    with pytest.raises(BuildError) as error:
        parse("https://me:secret@host/x.git?a=b")
    assert "secret" not in str(error.value)


def test_the_name_is_that_of_the_repository() -> None:
    reference = parse("https://example.com/foo/bar.git#x")
    assert reference is not None and reference.name == "bar"


def test_only_whole_hashes_are_commits() -> None:
    assert is_commit("a" * 40) and is_commit("0" * 64)
    assert not is_commit("A" * 40) and not is_commit("a" * 39) and not is_commit("a" * 40 + "\n")


def test_a_path_of_github_is_a_repository_only_as_a_context() -> None:
    assert parse("github.com/moby/buildkit") is None


def test_a_file_is_behind_other_http_and_https_urls() -> None:
    assert (
        is_http("http://x")
        and not is_http("http://x/y.git")
        and is_http("https://x")
        and not is_http("HTTP://x")
        and not is_http("ftp://x")
    )


@given(
    st.text(alphabet=st.sampled_from("abgit@:/.#?=&-%\\ \n^~0é"), max_size=60),
    st.sampled_from(("", HUB, "git@h:")),
)
def test_any_text_gives_an_answer_whose_parts_git_can_take(text: str, start: str) -> None:
    try:
        reference = parse(start + text)
    except BuildError:
        return
    if reference is not None:
        assert not reference.remote.startswith("-")
        assert not reference.ref.startswith("-") and "\n" not in reference.ref + reference.remote
        assert ".." not in reference.subdir.split("/") and not reference.subdir.startswith("/")
