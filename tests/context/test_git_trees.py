"""Trees of git: refs, checksums, subdirectories, submodules, and repositories that mean harm."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from web_servers import Site, git, make_repository

from buildfront.context.git_program import Git, GitFailed
from buildfront.context.remote import Remote
from buildfront.errors import BuildError
from buildfront.graph.step_graph import GitTree
from run_step import Secret

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

Make = Callable[..., Remote]

MAIN = {"README", "link", "sub", "sub/file", "sub/run.sh"}


def files(path: str) -> set[str]:
    top = Path(path)
    return {
        str(item.relative_to(top)) for item in top.rglob("*") if ".git" not in item.relative_to(top).parts
    }


def tree(build: Remote, wanted: GitTree, *, commit_times: bool = False) -> str:
    return build.trees.check_out(wanted, build.trees.resolve(wanted), commit_times=commit_times)


@pytest.fixture
def url(web: Site, repositories: Path) -> str:
    make_repository(repositories)
    return f"{web.url}/git/repo.git"


def test_the_default_branch_is_checked_out_with_usual_modes(url: str, remote: Make) -> None:
    old = os.umask(0o077)
    try:
        path = tree(remote(), GitTree(url))
    finally:
        os.umask(old)
    assert files(path) == MAIN and not os.path.lexists(os.path.join(path, ".git"))
    modes = {name: stat.S_IMODE(os.lstat(os.path.join(path, name)).st_mode) for name in MAIN}
    assert (modes["README"], modes["sub"], modes["sub/run.sh"]) == (0o644, 0o755, 0o755)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    assert os.readlink(os.path.join(path, "link")) == "sub"


@pytest.mark.parametrize("ref", ["dev", "refs/heads/dev", "heads/dev", "v2", "refs/tags/v2", "tags/v2"])
def test_a_branch_and_an_annotated_tag_are_found(url: str, remote: Make, ref: str) -> None:
    assert files(tree(remote(), GitTree(url, ref))) == MAIN | {"sub/dev"}


def test_a_branch_goes_before_a_tag(url: str, repositories: Path, remote: Make) -> None:
    git(repositories / "repo.git", "tag", "dev", "main")
    build = remote()
    assert build.trees.resolve(GitTree(url, "dev")).name == "refs/heads/dev"
    assert build.trees.resolve(GitTree(url, "refs/tags/dev")).name == "refs/tags/dev"


def test_an_annotated_tag_is_its_commit(url: str, repositories: Path, remote: Make) -> None:
    commit = git(repositories / "repo.git", "rev-parse", "dev")
    found = remote().trees.resolve(GitTree(url, "v2"))
    assert found.commit == commit != found.object


def test_a_commit_is_found_that_no_ref_names(url: str, repositories: Path, remote: Make) -> None:
    work = repositories / "repo.git.work"
    first = git(work, "rev-parse", "main")
    (work / "README").write_text("new\n")
    git(work, "commit", "-q", "-a", "-m", "three")
    git(work, "push", "-q", "origin", "main")
    git(work, "push", "-q", "origin", ":refs/tags/v1")
    build = remote()
    assert build.trees.resolve(GitTree(url, first)).commit == first
    path = tree(build, GitTree(url, first))
    assert Path(path, "README").read_text() == "readme\n"
    assert Path(tree(remote(), GitTree(url)), "README").read_text() == "new\n"


def test_a_short_hash_is_no_ref_and_the_error_says_so(url: str, repositories: Path, remote: Make) -> None:
    short = git(repositories / "repo.git", "rev-parse", "--short", "main")
    with pytest.raises(BuildError) as error:
        remote().trees.resolve(GitTree(url, short))
    assert "no branch and no tag" in error.value.what and "whole hash" in error.value.hint


def test_a_commit_that_is_not_there_is_an_error(url: str, remote: Make) -> None:
    with pytest.raises(BuildError, match="0" * 40):
        tree(remote(), GitTree(url, "0" * 40))


def test_a_checksum_is_the_beginning_of_the_commit_or_the_tag(
    url: str, repositories: Path, remote: Make
) -> None:
    bare = repositories / "repo.git"
    for name in ("v2", "v2^{}"):
        full = git(bare, "rev-parse", name)
        for text in (full, full[:7]):
            remote().trees.resolve(GitTree(url, "v2", checksum=text))
    with pytest.raises(BuildError, match="and 012345 is wanted"):
        remote().trees.resolve(GitTree(url, "v2", checksum="012345"))
    with pytest.raises(BuildError, match="is wanted"):
        remote().trees.resolve(GitTree(url, "a" * 40, checksum="b"))


def test_fetching_by_commit_asks_for_no_ref(url: str, repositories: Path, remote: Make) -> None:
    commit = git(repositories / "repo.git", "rev-parse", "dev")
    git(repositories / "repo.git", "config", "uploadpack.allowAnySHA1InWant", "true")
    wanted = GitTree(url, "gone", checksum=commit, fetch_by_commit=True)
    assert files(tree(remote(), wanted)) == MAIN | {"sub/dev"}
    with pytest.raises(BuildError, match="needs the whole commit hash"):
        remote().trees.resolve(GitTree(url, "dev", checksum="abc", fetch_by_commit=True))


def test_a_moved_branch_gives_its_new_files(url: str, repositories: Path, remote: Make) -> None:
    assert Path(tree(remote(), GitTree(url)), "README").read_text() == "readme\n"
    work = repositories / "repo.git.work"
    git(work, "checkout", "-q", "--orphan", "other")
    (work / "README").write_text("other\n")
    git(work, "commit", "-q", "-a", "-m", "other")
    git(work, "push", "-q", "--force", "origin", "other:main")
    assert Path(tree(remote(), GitTree(url)), "README").read_text() == "other\n"


def test_a_branch_that_moves_while_we_fetch_gives_what_was_resolved(
    url: str, repositories: Path, remote: Make
) -> None:
    build = remote()
    found = build.trees.resolve(GitTree(url))
    work = repositories / "repo.git.work"
    (work / "README").write_text("new\n")
    git(work, "commit", "-q", "-a", "-m", "three")
    git(work, "push", "-q", "origin", "main")
    assert Path(build.trees.check_out(GitTree(url), found), "README").read_text() == "readme\n"


def test_a_subdirectory_is_a_tree_of_its_own(url: str, remote: Make) -> None:
    assert files(tree(remote(), GitTree(url, "dev", "sub"))) == {"dev", "file", "run.sh"}


@pytest.mark.parametrize(
    ("subdir", "words"),
    [("link", "links are not followed"), ("README", "is not a directory"), ("no/where", "has no directory")],
)
def test_a_subdirectory_that_is_none_is_an_error(url: str, remote: Make, subdir: str, words: str) -> None:
    with pytest.raises(BuildError) as error:
        tree(remote(), GitTree(url, "", subdir))
    assert words in str(error.value)


def test_the_repository_is_kept_if_that_is_asked_for(url: str, remote: Make) -> None:
    path = Path(tree(remote(), GitTree(url, "v2", keep_git_dir=True)))
    assert git(path, "status", "--short") == "" and git(path, "log", "--format=%s") == "two"
    assert git(path, "remote", "get-url", "origin") == url
    assert git(path, "describe", "--tags") == "v2"
    assert not (path / ".git" / "hooks").exists() and not (path / ".git" / "logs").exists()
    assert not (path / ".git" / "objects/info/alternates").exists()


def test_a_kept_repository_has_no_password(url: str, remote: Make) -> None:
    path = Path(tree(remote(), GitTree(url.replace("//", "//me:secret@"), keep_git_dir=True)))
    assert b"secret" not in b"".join(item.read_bytes() for item in path.rglob("*") if item.is_file())


def test_files_can_have_the_time_of_the_commit(url: str, remote: Make) -> None:
    path = Path(tree(remote(), GitTree(url), commit_times=True))
    assert {os.lstat(item).st_mtime for item in (path, *path.rglob("*"))} == {981173106}


def submodule(work: Path, text: str) -> None:
    """Commit a submodule ``mod`` whose URL is ``text``."""
    commit = git(work, "rev-parse", "HEAD")
    (work / ".gitmodules").write_text(f'[submodule "mod"]\n\tpath = mod\n\turl = {text}\n')
    git(work, "add", ".gitmodules")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},mod")
    git(work, "commit", "-q", "-m", "with a module")
    git(work, "push", "-q", "origin", "HEAD:main")


def test_submodules_come_with_it_or_not(web: Site, url: str, repositories: Path, remote: Make) -> None:
    make_repository(repositories, "other.git")
    submodule(repositories / "repo.git.work", "../other.git")
    path = tree(remote(), GitTree(url))
    assert {"mod/README", "mod/sub/file"} <= files(path)
    assert not os.path.lexists(os.path.join(path, "mod", ".git"))
    without = tree(remote(), GitTree(url, submodules=False))
    assert "mod" in files(without) and "mod/README" not in files(without)
    kept = Path(tree(remote(), GitTree(url, keep_git_dir=True)))
    assert git(kept / "mod", "status", "--short") == ""


@pytest.mark.parametrize(
    "text", ["ext::sh -c touch% {mark}", "file://{place}/other.git", "{place}/other.git", "-u./payload:x"]
)
def test_a_submodule_of_a_strange_kind_is_refused(
    url: str, repositories: Path, remote: Make, tmp_path: Path, text: str
) -> None:
    make_repository(repositories, "other.git")
    mark = tmp_path / "mark"
    submodule(repositories / "repo.git.work", text.format(mark=mark, place=repositories))
    with pytest.raises(BuildError, match="can't be checked out"):
        tree(remote(), GitTree(url))
    assert not mark.exists()


def test_the_command_of_a_submodule_is_not_run(
    url: str, repositories: Path, remote: Make, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    make_repository(repositories, "other.git")
    submodule(repositories / "repo.git.work", "../other.git")
    work = repositories / "repo.git.work"
    with open(work / ".gitmodules", "a") as out:
        out.write(f"\tupdate = !touch {mark}\n")
    git(work, "commit", "-q", "-a", "-m", "worse")
    git(work, "push", "-q", "origin", "HEAD:main")
    with suppress(BuildError):  # of newer versions of git
        tree(remote(), GitTree(url))
    assert not mark.exists()


def test_a_tree_with_a_name_that_leaves_it_is_refused(url: str, repositories: Path, remote: Make) -> None:
    bare = repositories / "repo.git"
    blob = git(bare, "rev-parse", "main:README")
    entry = b"100644 ..\0" + bytes.fromhex(blob)
    environ = {"PATH": os.environ["PATH"], "HOME": str(bare)}
    made = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        input=entry,
        cwd=bare,
        env=environ,
        capture_output=True,
        check=True,
    ).stdout.decode()
    commit = git(bare, "commit-tree", made.strip(), "-m", "bad")
    git(bare, "update-ref", "refs/heads/main", commit)
    with pytest.raises(BuildError, match="can't be checked out"):
        tree(remote(), GitTree(url))


@pytest.mark.parametrize(
    "remote_url", ["ext::sh -c id", "file:///srv/x.git", "/srv/x.git", "--upload-pack=id"]
)
def test_a_remote_of_a_strange_kind_is_refused(
    remote: Make, remote_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    with pytest.raises(BuildError, match="can't be read"):
        remote().trees.resolve(GitTree(remote_url, "main"))


def test_a_ref_that_is_an_option_is_refused(url: str, remote: Make) -> None:
    with pytest.raises(BuildError, match="not the name of a branch"):
        remote().trees.resolve(GitTree(url, "--upload-pack=id"))


def test_configuration_and_hooks_of_the_user_do_not_count(
    url: str, remote: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    home = tmp_path / "home"
    home.mkdir()
    settings = f'[core]\n\tfsmonitor = "touch {mark}"\n[url "http://127.0.0.1:9/"]\n\tinsteadOf = http\n'
    (home / ".gitconfig").write_text(settings)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert files(tree(remote(), GitTree(url))) == MAIN
    assert not mark.exists()


def test_a_secret_is_sent_as_the_header(web: Site, url: str, remote: Make) -> None:
    host = web.url.partition("//")[2]
    for secrets, header in (
        ({"GIT_AUTH_TOKEN": Secret(b"word\n")}, "basic eC1hY2Nlc3MtdG9rZW46d29yZA=="),
        ({"GIT_AUTH_HEADER": Secret(b"special")}, "special"),
        ({f"GIT_AUTH_HEADER.{host}": Secret(b"mine"), "GIT_AUTH_HEADER": Secret(b"other")}, "mine"),
    ):
        web.seen.clear()
        remote(secrets=secrets).trees.resolve(GitTree(url))
        assert {fields.get("authorization") for _, _, fields in web.seen} == {header}


def test_a_repository_that_is_not_there_is_an_error(web: Site, remote: Make) -> None:
    with pytest.raises(BuildError) as error:
        remote().trees.resolve(GitTree(web.url.replace("//", "//me:secret@") + "/git/no.git"))
    assert "can't be read" in error.value.what and "secret" not in str(error.value)


def test_an_empty_repository_has_no_branch(web: Site, repositories: Path, remote: Make) -> None:
    git(repositories, "init", "-q", "--bare", "empty.git")
    with pytest.raises(BuildError, match="has no default branch"):
        remote().trees.resolve(GitTree(f"{web.url}/git/empty.git"))


def test_git_has_to_be_there(remote: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="the program git is missing"):
        remote().trees.resolve(GitTree("https://example.com/x.git"))


def test_ssh_needs_keys_that_are_lent(remote: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    with pytest.raises(BuildError) as error:
        remote().trees.resolve(GitTree("git@example.com:x.git"))
    assert "--ssh default" in error.value.hint


def test_ssh_finds_the_agent_that_is_lent(
    url: str, repositories: Path, remote: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Agent:
        def ask(self, message: bytes) -> bytes:
            return b"\x05"

    script = tmp_path / "ssh"
    script.write_text(
        f"#!{sys.executable}\nimport os, socket, sys\n"
        "line = socket.socket(socket.AF_UNIX)\nline.connect(os.environ['SSH_AUTH_SOCK'])\n"
        "line.sendall(b'\\0\\0\\0\\x01\\x0b')\nassert line.recv(5) == b'\\0\\0\\0\\x01\\x05'\n"
        "os.execvp('sh', ['sh', '-c', sys.argv[-1]])\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(script))
    wanted = GitTree(f"ssh://git@host{repositories}/repo.git", "dev")
    assert files(tree(remote(agents={"default": Agent()}), wanted)) == MAIN | {"sub/dev"}


def test_ssh_notes_new_hosts_and_has_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    command = Git(seconds=1, known_hosts="/s tore/known_hosts")._environ["GIT_SSH_COMMAND"]
    assert command.startswith("ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new")
    assert '"/s tore/known_hosts"' in command


def test_a_damaged_copy_in_the_store_is_made_anew(url: str, remote: Make, tmp_path: Path) -> None:
    build = remote()
    tree(build, GitTree(url))
    build.close()
    (bare,) = (tmp_path / "store" / "downloads" / "git").glob("*/data-bare")
    (bare / "HEAD").unlink()
    (bare / "shallow.lock").write_text("")
    assert files(tree(remote(), GitTree(url))) == MAIN


def test_a_command_ends_when_the_build_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    started = tmp_path / "started"
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\nsleep 1000 & echo $! > {started}.new; mv {started}.new {started}; wait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def check() -> None:
        if started.exists():
            raise Stop

    with pytest.raises(Stop):
        Git(seconds=1000, check=check).run("fetch")
    assert not os.path.exists(f"/proc/{started.read_text().strip()}/exe")


def test_a_command_that_takes_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BuildError, match="git fetch takes longer than 0 seconds"):
        Git(seconds=0).run("fetch")


def test_the_reason_is_what_git_says_last() -> None:
    assert GitFailed("hint: x\nremote: no\nfatal: never\n").reason == "remote: no; fatal: never"
    assert GitFailed("").reason == "git gives no reason"


def test_several_builds_fetch_side_by_side(url: str, remote: Make) -> None:
    results: list[set[str]] = []
    builds = [remote() for _ in range(3)]
    threads = [
        threading.Thread(target=lambda b=b: results.append(files(tree(b, GitTree(url))))) for b in builds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [MAIN] * 3
