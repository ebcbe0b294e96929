"""What runs again and what does not."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest


def test_an_unchanged_build_runs_nothing_and_gives_the_same_image(box) -> None:
    context = box.context(
        "FROM box\nCOPY a.txt /\nRUN date > /d 2>/dev/null; echo $RANDOM\nENV A=1\n", a_txt="a"
    )
    first = box.build(context).stdout
    assert box.ran(context) == []
    assert box.build(context).stdout == first


@pytest.mark.parametrize(
    ("change", "args", "ran"),
    [
        ("b.txt", [], ["COPY b.txt /b", "RUN cat /b", "RUN echo $V"]),
        ("unread.txt", [], []),
        ("", ["--build-arg", "V=2"], ["RUN echo $V"]),
        ("", ["--label", "x=y"], []),
        ("", ["--network", "none"], ["RUN echo first", "COPY b.txt /b", "RUN cat /b", "RUN echo $V"]),
        ("", ["--no-cache"], ["RUN echo first", "COPY b.txt /b", "RUN cat /b", "RUN echo $V"]),
    ],
)
def test_exactly_what_depends_on_a_change_runs_again(box, change, args, ran) -> None:
    text = "FROM box\nRUN echo first\nCOPY b.txt /b\nRUN cat /b\nARG V=1\nRUN echo $V\n"
    context = box.context(text, b_txt="b", unread_txt="u")
    box.build(context)
    if change:
        (context / change).write_text("changed")
    assert box.ran(context, *args) == ran


def test_a_changed_instruction_reruns_from_there(box) -> None:
    context = box.context("FROM box\nRUN echo 1\nRUN echo 2\nRUN echo 3\n")
    box.build(context)
    (context / "Dockerfile").write_text("FROM box\nRUN echo 1\nRUN echo two\nRUN echo 3\n")
    assert box.ran(context) == ["RUN echo two", "RUN echo 3"]


def test_a_changed_base_reruns_all(box, busybox_tar, tmp_path) -> None:
    context = box.context("FROM box\nRUN echo 1\n")
    box.build(context)
    other = tmp_path / "other.tar"
    other.write_bytes(busybox_tar.read_bytes())
    with tarfile.open(other, "a") as tar:
        tar.addfile(tarfile.TarInfo("new-file"))
    box("import", other, "-t", "box")
    assert box.ran(context) == ["RUN echo 1"]


def test_steps_that_stages_have_in_common_are_carried_out_once(box) -> None:
    same = (
        "WORKDIR /work\nCOPY a.txt ./\nCOPY --link a.txt /linked\nRUN cat /proc/sys/kernel/random/uuid > n\n"
    )
    text = "".join(f"FROM box AS {name}\n{same}RUN cp n /{name}\n" for name in ("a", "b", "c"))
    text += "FROM box\n" + "".join(f"COPY --from={name} /{name} /\n" for name in ("a", "b", "c"))
    context = box.context(text, a_txt="a")
    for more in ([], ["--no-cache"]):
        out = box.files(context, "--jobs", "3", *more)
        assert len({(out / name).read_text() for name in ("a", "b", "c")}) == 1
        assert box.ran(context) == []


def test_a_stage_that_ran_again_with_the_same_files_keeps_what_copies_from_it(box) -> None:
    text = "FROM box AS a\nCOPY note.txt /note\nRUN echo same > /out\nFROM box\nCOPY --from=a /out /out\nRUN cat /out\n"
    context = box.context(text, note_txt="1")
    first = box.build(context).stdout
    (context / "note.txt").write_text("2")
    assert box.ran(context) == ["COPY note.txt /note", "RUN echo same > /out"]
    assert box.build(context).stdout == first


def test_a_step_that_ran_again_is_not_followed_by_results_of_an_earlier_run(box) -> None:
    """The random number that a later step copies is the one that is in the image."""
    text = "FROM box AS a\nRUN cat /proc/sys/kernel/random/uuid > /n\nRUN cp /n /copy\n"
    text += "FROM box\nCOPY --from=a /n /copy /\n"
    context = box.context(text)
    before = box.files(context)
    again = box.files(context, "--no-cache-filter", "a")
    after = box.files(context)
    assert (again / "n").read_text() == (again / "copy").read_text() != (before / "n").read_text()
    assert (after / "n").read_text() == (after / "copy").read_text() == (again / "n").read_text()


def test_times_do_not_count_and_modes_do(box) -> None:
    context = box.context("FROM box\nCOPY a.txt /\n", a_txt="a")
    box.build(context)
    (context / "a.txt").write_text("a")
    assert box.ran(context) == []
    (context / "a.txt").chmod(0o600)
    assert box.ran(context) == ["COPY a.txt /"]


def test_independent_stages_run_side_by_side(box, isolation, tmp_path) -> None:
    """Each stage waits for a file that only the other one makes."""
    meet = tmp_path / "meet"
    meet.mkdir()
    wait = "for i in $(seq 600); do test -e /meet/{0} && exit 0; sleep 0.1; done; exit 1"
    context = box.context(
        f"FROM box AS a\nRUN touch /meet/a; {wait.format('b')}\nFROM box AS b\nRUN touch /meet/b; {wait.format('a')}\n"
        "FROM scratch\nCOPY --from=a /data /a\nCOPY --from=b /data /b\n"
    )
    box.build(context, "-v", f"{meet}:/meet", "--isolation", isolation)


def test_two_builds_of_one_store_at_once(box) -> None:
    contexts = [box.context(f"FROM box\nRUN echo shared\nRUN echo {n} > /n\n") for n in range(4)]
    command = [str(Path(sys.executable).parent / "buildfront"), "--root", str(box.store), "build", "-q"]
    running = [
        subprocess.Popen([*command, "-t", f"n{n}", str(c)], stdout=subprocess.PIPE, text=True)
        for n, c in enumerate(contexts)
    ]
    assert all(process.wait() == 0 for process in running)
    names = {row["annotations"]["org.opencontainers.image.ref.name"] for row in box.snapshot()["index"]}
    assert {f"docker.io/library/n{n}:latest" for n in range(4)} <= names


def _layers(archive: Path) -> list[list[tuple[object, ...]]]:
    import io
    import json

    out = []
    with tarfile.open(archive) as tar:

        def read(digest: str) -> bytes:
            stream = tar.extractfile("blobs/" + digest.replace(":", "/"))
            assert stream is not None
            return stream.read()

        index = tar.extractfile("index.json")
        assert index is not None
        manifest = json.loads(read(json.load(index)["manifests"][0]["digest"]))
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(read(layer["digest"]))) as inner:
                out.append(
                    [
                        (
                            m.name,
                            m.type,
                            m.mode,
                            m.uid,
                            m.gid,
                            m.linkname,
                            inner.extractfile(m).read() if m.isreg() else b"",
                        )
                        for m in inner
                    ]
                )
    return out


def test_both_kinds_of_snapshot_give_the_same_layers(bf, busybox_tar, tmp_path) -> None:
    text = (
        "FROM box\nRUN rm /data/kept && mkdir /data/new && echo x > /data/new/x && ln /data/new/x /data/hard\n"
        "RUN rm -r /data && mkdir /data && ln -s new /data/link && chmod 700 /home/bob\nCOPY a.txt /etc/passwd\n"
        "RUN true\nRUN touch -d '2001-01-01' /tmp; rm -r /usr; echo f > /usr; chmod 600 /etc/group\n"
    )
    found = []
    for kind in ("overlay", "copy"):
        bf.store = tmp_path / kind
        bf("import", busybox_tar, "-t", "box")
        archive = tmp_path / f"{kind}.tar"
        context = bf.context(text, a_txt="root:x:0:0::/root:/bin/sh\n")
        bf.build(context, "-o", f"type=oci,dest={archive}", env={"BUILDFRONT_SNAPSHOTS": kind})
        found.append(_layers(archive))
    assert found[0] == found[1]
    assert found[0][4] == [], "a RUN that changes nothing has an empty layer"


def test_a_wholly_cached_build_loads_nothing_heavy(box) -> None:
    context = box.context("FROM box\nCOPY a.txt /\nRUN true\n", a_txt="a")
    box.build(context)
    code = (
        "import sys; sys.argv = ['buildfront', '--root', sys.argv[1], 'build', '--jobs', '2', sys.argv[2]]\n"
        "from buildfront.__main__ import main\n"
        "try: main()\nfinally: print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(box.store), str(context)], capture_output=True, text=True, check=True
    )
    assert not {"rich", "jsonschema", "pyroute2", "httpx", "httpcore", "asyncio"} & set(done.stdout.split())


def test_names_and_ids_of_old_images_stay_until_replaced(box) -> None:
    context = box.context("FROM box\nRUN echo 1 > /n\n")
    first = box.build(context, "-t", "app").stdout.strip()
    (context / "Dockerfile").write_text("FROM box\nRUN echo 2 > /n\n")
    time.sleep(0.01)
    second = box.build(context, "-t", "app").stdout.strip()
    assert first != second
    listed = box("images", "--format", "json").stdout
    assert first in listed and second in listed
