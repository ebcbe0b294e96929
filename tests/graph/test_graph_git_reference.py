"""Which texts are references to git repositories, and their parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.graph.git_reference import GitReference, is_http, parse

URL = "https://github.com/foo/bar.git"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URL, GitReference(URL)),
        ("http://example.com/bar.git", GitReference("http://example.com/bar.git")),
        ("https://user:pass@host:8443/a%20b.git", GitReference("https://user:pass@host:8443/a%20b.git")),
        ("https://host/a b.git", GitReference("https://host/a%20b.git")),
        ("HTTPS://Host/x.git", GitReference("https://Host/x.git")),
        (f"{URL}#main", GitReference(URL, "main")),
        (f"{URL}#baz/qux:quux/../quuz/", GitReference(URL, "baz/qux", "quuz")),
        (f"{URL}#:sub", GitReference(URL, subdir="sub")),
        (f"{URL}#:../../sub", GitReference(URL, subdir="sub")),
        (f"{URL}#:", GitReference(URL)),
        (f"{URL}#a%3Ab", GitReference(URL, "a", "b")),
        ("git://host/name", GitReference("git://host/name")),
        ("ssh://git@host/name#v1", GitReference("ssh://git@host/name", "v1")),
        ("git@github.com:foo/bar.git", GitReference("git@github.com:foo/bar.git")),
        ("git@host:a/b#v1:sub", GitReference("git@host:a/b", "v1", "sub")),
        ("git@host:a/b?tag=v1", GitReference("git@host:a/b", "refs/tags/v1")),
        (f"{URL}?ref=v1", GitReference(URL, "v1")),
        (f"{URL}?ref=v1#v1", GitReference(URL, "v1")),
        (f"{URL}?branch=dev&subdir=a/../b", GitReference(URL, "refs/heads/dev", "a/../b")),
        (f"{URL}?branch=refs/heads/dev", GitReference(URL, "refs/heads/dev")),
        (f"{URL}?tag=refs/tags/v1", GitReference(URL, "refs/tags/v1")),
        (f"{URL}?checksum=abc", GitReference(URL, checksum="abc")),
        (f"{URL}?commit=abc&fetch-by-commit", GitReference(URL, checksum="abc", fetch_by_commit=True)),
        (f"{URL}?keep-git-dir", GitReference(URL, keep_git_dir=True)),
        (f"{URL}?keep-git-dir=0&submodules=false", GitReference(URL, keep_git_dir=False, submodules=False)),
        (f"{URL}?mtime=commit", GitReference(URL, mtime="commit")),
    ],
)
def test_references(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file",
        "./git@host:x",
        "../x.git",
        "/x.git",
        "https://host/name",
        "https://host/name.git/x",
        "https://host/x?y=z.git",
        "ftp://host/x.git",
        "file:///x.git",
        "git+ssh://host/x.git",
        "https://host/%zz.git",
        "https://host/x.git\n",
        "a b@host:x",
        "github.com/foo/bar",
        "http://",
    ],
)
def test_paths_and_other_urls(text):
    assert parse(text) is None


def test_a_context_may_leave_out_the_scheme_of_github():
    assert parse("github.com/foo/bar#v1:sub", context=True) == GitReference(
        "https://github.com/foo/bar", "v1", "sub"
    )
    assert parse(URL, context=True) == GitReference(URL)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("?branch=a&tag=b", "a branch and a tag"),
        ("?ref=a#b", "ref is both 'b' and 'a'"),
        ("?branch=a#b", "ref is both 'b' and 'refs/heads/a'"),
        ("?subdir=a#:b", "subdir is both 'b' and 'a'"),
        ("?tag=", "'tag' has no value"),
        ("?tag=a&tag=b", "given twice"),
        ("?colour=red", "unknown query 'colour'"),
        ("?submodules=maybe", "submodules=maybe is neither true nor false"),
        ("?mtime=now", "known are checkout, commit"),
    ],
)
def test_queries_that_no_reference_can_have(text, what):
    with pytest.raises(BuildError, match=what):
        parse(URL + text)


@pytest.mark.parametrize(
    "text", ["-oProxyCommand=x@host:y", "ssh://-oProxyCommand=x/y", "-u@host:y", "ssh://-u@h/y"]
)
def test_an_option_of_git_or_ssh_is_no_reference(text):
    try:
        assert parse(text) is None
    except BuildError as error:
        assert "hyphen" in error.what


def test_http_urls_that_are_files():
    assert is_http("https://host/file.tar.gz?x=y.git")
    assert not is_http(URL) and not is_http("ftp://host/x") and not is_http("x")


@given(st.text(max_size=60) | st.text("git@:/#?=&.-%ahtps", max_size=40))
def test_any_text_is_a_reference_or_none_or_refused(text):
    for whole in (text, f"https://h/x.git{text}", f"git@h:{text}"):
        try:
            found = parse(whole)
        except BuildError:
            continue
        if found is not None:
            assert not found.remote.startswith("-") and "\n" not in found.remote
