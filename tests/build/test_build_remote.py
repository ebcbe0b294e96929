"""ADD of URLs and git, and contexts that come from afar or by standard input, in real builds."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import BUILDFRONT
from web_servers import Page, Site, git, make_repository, site

MODIFIED = "Tue, 05 Mar 2002 06:07:08 GMT"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Site]:
    place = tmp_path / "git"
    place.mkdir()
    with site(place) as found:
        yield found


@pytest.fixture
def repository(web: Site, tmp_path: Path) -> str:
    make_repository(tmp_path / "git")
    return f"{web.url}/git/repo.git"


def tar(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def test_a_url_is_added_with_mode_and_time(box, web) -> None:
    web.pages["/d/f.txt"] = Page(b"text", {"Last-Modified": MODIFIED})
    out = box.files(box.context(f"FROM box\nADD {web.url}/d/f.txt /x/\nADD {web.url}/d/f.txt /y\n"))
    for name in ("x/f.txt", "y"):
        status = (out / name).stat()
        assert (out / name).read_text() == "text"
        assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o600, 1015308428)
    assert web.asked("/d/f.txt") == ["GET"], "two ADDs, one request"


def test_a_url_that_has_not_changed_is_cached_and_one_that_has_is_not(box, web) -> None:
    web.pages["/f"] = Page(b"one", {"ETag": '"1"'})
    context = box.context(f"FROM box\nADD {web.url}/f /f\nRUN cat /f\n")
    assert len(box.ran(context)) == 2
    assert box.ran(context) == []
    assert web.asked("/f") == ["GET", "HEAD"]
    web.pages["/f"] = Page(b"two", {"ETag": '"2"'})
    assert len(box.ran(context)) == 2
    assert box.ran(context) == []


def test_a_build_that_needs_a_server_is_not_answered_by_a_note(box, web) -> None:
    web.pages["/f"] = Page(b"one")
    context = box.context(f"FROM box\nADD {web.url}/f /f\n")
    for _ in range(3):
        box.build(context)
    web.pages["/f"] = Page(b"two")
    out = box.files(context)
    assert (out / "f").read_text() == "two"


def test_with_a_checksum_a_cached_build_asks_no_server(box, web) -> None:
    web.pages["/f"] = Page(b"text")
    digits = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
    context = box.context(f"FROM box\nADD --checksum=sha256:{digits} {web.url}/f /f\n")
    box.build(context)
    box.build(context)
    box.build(context)
    assert web.asked("/f") == ["GET"]


def test_no_cache_downloads_anew(box, web) -> None:
    web.pages["/f"] = Page(b"text", {"ETag": '"1"'})
    context = box.context(f"FROM box\nADD {web.url}/f /f\n")
    box.build(context)
    box.build(context, "--no-cache")
    assert web.asked("/f") == ["GET", "GET"]


def test_several_urls_are_fetched_at_the_same_time(box, web) -> None:
    together = threading.Barrier(3, timeout=60)

    def answer(handler: Any) -> None:
        together.wait()
        handler.send_response(200)
        handler.send_header("Content-Length", "1")
        handler.end_headers()
        handler.wfile.write(b"x")

    for name in "abc":
        web.pages[f"/{name}"] = answer
    adds = "".join(f"ADD {web.url}/{name} /{name}\n" for name in "abc")
    out = box.files(box.context(f"FROM box\n{adds}"))
    assert [(out / name).read_text() for name in "abc"] == ["x"] * 3


def test_an_error_names_line_and_url(box, web) -> None:
    done = box.build(box.context(f"FROM box\n\nADD {web.url}/no?key=hidden /f\n"), check=False)
    assert done.returncode == 1
    assert "Dockerfile:3\n" in done.stderr
    assert f"error: {web.url}/no can't be fetched: the server answers 404 Not Found" in done.stderr
    assert box.snapshot()["snapshots"] is not None


def test_a_plan_shows_sources_and_downloads_nothing(box, web) -> None:
    web.pages["/f"] = Page(b"text")
    done = box("plan", box.context(f"FROM box\nADD {web.url}/f /f\n"))
    assert f"{web.url}/f" in done.stdout
    assert web.asked("/f") == []


def test_an_interrupt_ends_a_transfer_and_leaves_nothing(box, web) -> None:
    begun = threading.Event()
    over = threading.Event()

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)
        handler.wfile.flush()
        begun.set()
        over.wait(60)
        handler.close_connection = True

    web.pages["/f"] = answer
    context = box.context(f"FROM box\nADD {web.url}/f /f\n")
    environ = {**os.environ, "BUILDFRONT_ROOT": str(box.store)}
    process = subprocess.Popen([BUILDFRONT, "build", str(context)], env=environ, stderr=subprocess.PIPE)
    try:
        assert begun.wait(60)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        over.set()
        process.kill()
    assert process.returncode == 130
    left = [path.name for path in (box.store / "downloads").rglob("*")]
    assert not [name for name in left if name.startswith(("part-", "data-"))]
    assert box.snapshot()["snapshots"] is not None


@needs_git
def test_a_repository_is_added_and_cached_by_its_commit(box, repository, tmp_path) -> None:
    context = box.context(f"FROM box\nADD {repository}#main:sub /r\n")
    out = box.files(context)
    assert sorted(os.listdir(out / "r")) == ["file", "run.sh"]
    assert box.ran(context) == []
    work = tmp_path / "git" / "repo.git.work"
    (work / "sub" / "new").write_text("new\n")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "new")
    git(work, "push", "-q", "origin", "main")
    assert sorted(os.listdir(box.files(context) / "r")) == ["file", "new", "run.sh"]


@needs_git
def test_a_whole_commit_asks_no_server_when_it_is_cached(box, web, repository, tmp_path) -> None:
    commit = git(tmp_path / "git" / "repo.git", "rev-parse", "main")
    context = box.context(f"FROM box\nADD {repository}#{commit} /r\n")
    box.build(context)
    web.seen.clear()
    box.build(context)
    assert web.seen == []


@needs_git
def test_a_kept_repository_can_be_used_by_a_step(box, repository) -> None:
    context = box.context(f"FROM box\nADD --keep-git-dir=true {repository} /r\nRUN test -d /r/.git/objects\n")
    box.build(context)


def push(tmp_path: Path, **files: str) -> None:
    work = tmp_path / "git" / "repo.git.work"
    for name, text in files.items():
        file = work / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    git(work, "add", "-f", ".")
    git(work, "commit", "-q", "-m", "more")
    git(work, "push", "-q", "origin", "main")


@needs_git
def test_a_repository_is_a_context(box, repository, tmp_path) -> None:
    push(tmp_path, Dockerfile="FROM box\nCOPY . /c/\n", other="FROM box\nCOPY README /other\n")
    push(tmp_path, sub__Dockerfile="FROM box\nCOPY file /f\n")
    out = box.files(repository)
    assert (out / "c/README").read_text() == "readme\n" and not (out / "c/.git").exists()
    assert (box.files(f"{repository}#main:sub") / "f").read_text() == "in sub\n"
    assert (box.files(repository, "-f", "other") / "other").exists()
    kept = box.files(repository, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    assert (kept / "c/.git").is_dir()
    dated = box.files(repository, "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000")
    assert (dated / "c/README").stat().st_mtime == 981173106


@needs_git
def test_an_ignore_file_of_a_repository_counts(box, repository, tmp_path) -> None:
    push(tmp_path, Dockerfile="FROM box\nCOPY . /c/\n", **{".dockerignore": "sub\n"})
    assert not (box.files(repository) / "c/sub").exists()


@needs_git
def test_a_dockerfile_outside_of_a_repository_is_not_read(box, repository, tmp_path) -> None:
    push(tmp_path, Dockerfile="FROM box\n")
    outside = tmp_path / "outside"
    outside.write_text("FROM box\n")
    done = box.build(repository, "-f", outside, check=False)
    assert "does not exist in the context" in done.stderr
    work = tmp_path / "git" / "repo.git.work"
    (work / "away").symlink_to(outside)
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "link")
    git(work, "push", "-q", "origin", "main")
    done = box.build(repository, "-f", "away", check=False)
    assert done.returncode == 1 and "leads to nothing in the context" in done.stderr


@needs_git
def test_a_dockerfile_of_standard_input_goes_with_a_repository(box, repository) -> None:
    out = box.path / "out"
    box.build(repository, "-f", "-", "-o", f"type=local,dest={out}", input="FROM box\nCOPY sub /s\n")
    assert (out / "s/file").exists()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_archive_behind_a_url_is_a_context(box, web, pack) -> None:
    web.pages["/c"] = Page(pack(tar({"Dockerfile": "FROM box\nCOPY x /x\n", "x": "in the archive"})))
    assert (box.files(f"{web.url}/c") / "x").read_text() == "in the archive"


def test_a_dockerfile_behind_a_url_is_a_context(box, web) -> None:
    web.pages["/Dockerfile"] = Page(b"FROM box\nRUN echo made > /made\n")
    assert (box.files(f"{web.url}/Dockerfile") / "made").read_text() == "made\n"
    web.pages["/broken"] = Page(b"FROM box\nBROKEN\n")
    done = box.build(f"{web.url}/broken", check=False)
    assert f"{web.url}/broken:2" in done.stderr


def test_a_dockerfile_alone_on_standard_input_has_an_empty_context(box) -> None:
    out = box.path / "out"
    box.build("-", "-o", f"type=local,dest={out}", input="FROM box\nCOPY . /c/\nRUN echo made > /made\n")
    assert (out / "made").read_text() == "made\n" and os.listdir(out / "c") == []
    done = box.build("-", "-f", "Dockerfile", input="FROM box\n", check=False)
    assert "standard input is no archive, so it is the Dockerfile" in done.stderr


def test_a_missing_source_names_where_it_was_looked_for(box, tmp_path) -> None:
    done = box.build("-", input="FROM box\nCOPY x /x\n", check=False)
    assert "the context is empty" in done.stderr
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY --from=box /no/such /x\n")
    assert "is not in the image it is copied from" in box.build(tmp_path, check=False).stderr


def test_errors_about_an_archives_files_name_no_path_of_the_store(box, tmp_path) -> None:
    for name, words in (("Dockerfile", "Dockerfile"), (".dockerignore", ".dockerignore in the context")):
        archive = tmp_path / "c.tar"
        with tarfile.open(archive, "w") as tar:
            entry = tarfile.TarInfo("Dockerfile")
            if name != "Dockerfile":
                tar.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd-nothing"
            if name == ".dockerignore":
                entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
        said = box.build(archive, check=False).stderr
        assert words in said and str(box.store) not in said


def test_a_dockerfile_given_as_context_is_an_error_that_helps(box) -> None:
    context = box.context("FROM box\n")
    done = box.build(context / "Dockerfile", check=False)
    assert "is a file, but not a tar archive" in done.stderr and "-f" in done.stderr


@needs_git
def test_named_contexts_come_from_everywhere(box, web, repository, tmp_path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar({"in-archive": "a"}))
    web.pages["/f"] = Page(b"of a url")
    context = box.context(
        "FROM box\nCOPY --from=g sub/file /g\nCOPY --from=u context /u\nCOPY --from=a in-archive /a\n"
    )
    given = (f"g={repository}#dev", f"u={web.url}/f", f"a={archive}", "unused=https://example.invalid/x")
    words = [word for text in given for word in ("--build-context", text)]
    out = box.files(context, *words)
    assert (out / "g").read_text() == "in sub\n"
    assert (out / "u").read_text() == "of a url"
    assert (out / "a").read_text() == "a"


def test_the_ignore_file_of_a_named_directory_counts(box, tmp_path) -> None:
    named = tmp_path / "named"
    named.mkdir()
    for name in ("in", "out"):
        (named / name).write_text(name)
    (named / ".dockerignore").write_text("out\n")
    context = box.context("FROM box\nCOPY --from=n . /n/\n")
    assert sorted(os.listdir(box.files(context, "--build-context", f"n={named}") / "n")) == [
        ".dockerignore",
        "in",
    ]
    box.build(context, "--build-context", f"n={named}")
    (named / ".dockerignore").write_text("")
    assert "out" in os.listdir(box.files(context, "--build-context", f"n={named}") / "n")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("target:other", "a target of another build"),
        ("/no/where", "does not exist"),
        ("ftp://h/x", "does not exist"),
    ],
)
def test_a_named_context_that_is_none_is_an_error(box, value, words) -> None:
    done = box.build(box.context("FROM box\n"), "--build-context", f"n={value}", check=False)
    assert done.returncode == 1 and words in done.stderr


def test_a_context_that_is_none_is_an_error(box) -> None:
    for text in ("ftp://example.com/x.tar", "/no/where", "https://me:secret@127.0.0.1:9/x.tar"):
        done = box.build(text, check=False)
        assert done.returncode == 1 and "secret" not in done.stderr
