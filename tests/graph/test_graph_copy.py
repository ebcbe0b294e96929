"""COPY and ADD to operations: here-documents, URLs, git repositories, flags."""

import pytest

from buildfront.dockerfile.instructions import Copy, From, Heredoc
from buildfront.errors import BuildError, SourceRange
from buildfront.graph import GraphOptions, build_graph
from buildfront.graph.render import to_json
from buildfront.graph.step_graph import GitTree, HttpFile, Inline

PLACE = SourceRange("D", 2, 2)
DIGEST = "sha256:" + "0" * 64
REPO = "https://h/r.git"


def copied(*sources, dest="/d/", build_args=None, **fields):
    items = [From(PLACE, "FROM scratch", "scratch"), Copy(PLACE, "COPY", sources, dest, **fields)]
    return build_graph(items, GraphOptions(build_args=build_args or {}), {})


def op(*sources, **fields):
    return copied(*sources, **fields).steps[-1].op


def refused(*sources, **fields):
    with pytest.raises(BuildError) as caught:
        copied(*sources, **fields)
    assert caught.value.where == PLACE
    return str(caught.value)


@pytest.mark.parametrize(
    ("document", "content"),
    [
        (Heredoc("F", "a $PATH\n", expand=False), "a $PATH\n"),
        (Heredoc("F", "a ${NO}b\n"), "a b\n"),
        (Heredoc("F", 'it\'s "$NO"\n'), 'it\'s ""\n'),
        (Heredoc("F", "\\$PATH \\\\ \\x \\'\n"), "$PATH \\ x '\n"),
        (Heredoc("F", "${NO:-it's}\n"), "it's\n"),
        (Heredoc("F", "$'x'\n"), "$'x'\n"),
        (Heredoc("F", "end\\"), "end"),
        (Heredoc("F", "\ta\n\t\t b\n c\t\n", strip_tabs=True), "a\n b\n c\t\n"),
        (Heredoc("F", "\ta\n"), "\ta\n"),
        (Heredoc("F", ""), ""),
    ],
)
def test_a_document_is_a_file(document, content):
    assert op(documents=(document,)).sources == (Inline("F", content),)


def test_documents_come_after_the_sources():
    documents = (Heredoc("b", "1"), Heredoc("a", "2"))
    found = copied("x", REPO, documents=documents, add=True)
    assert found.steps[-1].op.sources == ("x", GitTree(REPO), Inline("b", "1"), Inline("a", "2"))
    assert found.target_stage.history[-1].created_by == f"ADD x {REPO} <<b <<a /d/ # buildkit"


@pytest.mark.parametrize("name", ["a/b", "..", ".", "/", "/..", "a\0"])
def test_a_delimiter_that_is_no_file_name(name):
    assert "can't be a file of that name" in refused(documents=(Heredoc(name, ""),))


def test_a_slash_before_a_delimiter_means_nothing():
    assert op(documents=(Heredoc("/EOF", "x"),)).sources == (Inline("EOF", "x"),)


def test_an_open_brace_in_a_document_has_a_place():
    assert "${" in refused(documents=(Heredoc("F", "${"),))


@pytest.mark.parametrize(
    ("source", "fields", "expected"),
    [
        ("https://h/f", {}, HttpFile("https://h/f")),
        (
            "http://h/f?x=$PATH",
            {},
            HttpFile("http://h/f?x=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ),
        ("https://h/f", {"checksum": DIGEST, "unpack": True}, HttpFile("https://h/f", DIGEST, True)),
        ("https://h/f", {"checksum": "$C"}, HttpFile("https://h/f", DIGEST)),
        ("https://h/f", {"unpack": False}, HttpFile("https://h/f")),
        (REPO, {}, GitTree(REPO)),
        (f"{REPO}#v1:sub", {"keep_git_dir": True}, GitTree(REPO, "v1", "sub", keep_git_dir=True)),
        (f"{REPO}?keep-git-dir=true", {}, GitTree(REPO, keep_git_dir=True)),
        (f"{REPO}?submodules=false", {"checksum": "abc"}, GitTree(REPO, checksum="abc", submodules=False)),
        (f"{REPO}?checksum=abc&fetch-by-commit=1", {}, GitTree(REPO, checksum="abc", fetch_by_commit=True)),
        ("git@h:r", {}, GitTree("git@h:r")),
        ("github.com/a/b", {}, "github.com/a/b"),
        ("ftp://h/f", {}, "ftp://h/f"),
        ("./git@h:r", {}, "./git@h:r"),
    ],
)
def test_sources_of_add(source, fields, expected):
    assert op(source, add=True, build_args={"C": DIGEST}, **_with_arg(fields)).sources == (expected,)


def _with_arg(fields):
    return {**fields, "checksum": DIGEST} if fields.get("checksum") == "$C" else fields


@pytest.mark.parametrize(
    ("sources", "fields", "what"),
    [
        (["https://h/f"], {}, "COPY reads no URL"),
        ([REPO], {}, "COPY reads no git repository"),
        (["git@h:r"], {}, "COPY reads no git repository"),
        (["https://h/f"], {"add": True, "checksum": "md5:0"}, "the form is sha256:DIGEST"),
        (["https://h/f"], {"add": True, "checksum": "sha256:abc"}, "the form is sha256:DIGEST"),
        (["f"], {"add": True, "checksum": DIGEST}, "exactly one source"),
        (["https://h/f", "https://h/g"], {"add": True, "checksum": DIGEST}, "exactly one source"),
        ([f"{REPO}?checksum=a"], {"add": True, "checksum": "b"}, "otherwise than the URL"),
        ([f"{REPO}?keep-git-dir=1"], {"add": True, "keep_git_dir": False}, "otherwise than the URL"),
        ([f"{REPO}?x=1"], {"add": True}, "unknown key 'x'"),
        (["a\0b"], {}, "null byte"),
    ],
)
def test_sources_that_are_refused(sources, fields, what):
    assert what in refused(*sources, **fields)


def test_flags_reach_the_operation_and_the_history():
    found = copied("a", parents=True, excludes=("*.md", "$X"), link=True, chown="1", chmod="u=rwX")
    made = found.steps[-1].op
    assert (made.parents, made.excludes, made.link) == (True, ("*.md", "$X"), True)
    assert (
        found.target_stage.history[-1].created_by == "COPY --parents --chown=1 --chmod=u=rwX a /d/ # buildkit"
    )


def test_add_unpacks_unless_it_says_otherwise():
    assert op("a", add=True).unpack and not op("a").unpack
    assert not op("a", add=True, unpack=False).unpack


def test_a_pivot_is_kept():
    assert op("../x/./y", parents=True).sources == ("../x/./y",)


def test_the_sources_of_a_drawn_graph_say_what_they_are():
    documents = (Heredoc("F", "x"),)
    found = to_json(copied("a", "https://h/f", REPO, documents=documents, add=True))
    assert [
        source if isinstance(source, str) else source["kind"]
        for source in found["steps"][-1]["op"]["sources"]
    ] == [
        "a",
        "http",
        "git",
        "inline",
    ]
    assert {"parents", "excludes", "link"}.isdisjoint(found["steps"][-1]["op"])
