"""Every instruction, by what it does to the image."""

from __future__ import annotations

import io
import os
import stat
import tarfile

import pytest
from rows import row


def test_everything_that_an_image_says(box) -> None:
    context = box.context(
        'ARG BASE=box\nFROM $BASE AS one\nMAINTAINER somebody\nENV A=1 B="two words"\nENV OLD form\nLABEL x=$A\n'
        "ARG V=default\n"
        "WORKDIR /work\nWORKDIR sub\nUSER bob\nEXPOSE 80 53/udp\nVOLUME /vol\nSTOPSIGNAL SIGQUIT\n"
        'SHELL ["/bin/sh", "-ec"]\nHEALTHCHECK --interval=5s CMD true\nONBUILD RUN echo later\n'
        'ENTRYPOINT ["/bin/echo"]\n'
        'CMD ["hi"]\nRUN id > /tmp/id; echo "$A $B $OLD $V" > /tmp/env; pwd > /tmp/pwd\n'
    )
    out = box.files(context, "-t", "app", "--build-arg", "V=given")
    image = box.config("app")
    assert image["author"] == "somebody"
    config = image["config"]
    assert config["Env"][1:] == ["A=1", "B=two words", "OLD=form"]
    assert (config["WorkingDir"], config["User"], config["StopSignal"]) == ("/work/sub", "bob", "SIGQUIT")
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert config["Volumes"] == {"/vol": {}}
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/echo"], ["hi"])
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000}
    assert (config["OnBuild"], config["Labels"]) == (["RUN echo later"], {"x": "1"})
    assert (out / "tmp/id").read_text() == "uid=1000(bob) gid=1000(bob) groups=10(wheel),1000(bob)\n"
    assert (out / "tmp/env").read_text() == "1 two words form given\n"
    assert (out / "tmp/pwd").read_text() == "/work/sub\n"
    assert len([line for line in image["history"] if not line.get("empty_layer")]) == len(
        image["rootfs"]["diff_ids"]
    )


def test_onbuild_of_a_base_runs_in_the_child(box) -> None:
    box.build(
        box.context("FROM box\nONBUILD COPY file /from-child\nONBUILD RUN cat /from-child > /ran\n"),
        "-t",
        "parent",
    )
    out = box.files(box.context("FROM parent\nRUN test -e /ran\n", file="x"), "-t", "child")
    assert (out / "ran").read_text() == "x"
    assert "OnBuild" not in box.config("child")["config"]


def test_run_forms(box, isolation) -> None:
    context = box.context(
        'FROM box\nRUN echo $0 > /shell\nRUN ["touch", "/exec $HOME"]\nRUN exit 0 && \\\n  # in between\n\n true\n'
    )
    out = box.files(context, "--isolation", isolation)
    assert (out / "shell").read_text() == "/bin/sh\n"
    assert (out / "exec $HOME").exists()


@row("S54")
def test_a_run_leaves_no_trace_of_itself(box, isolation) -> None:
    """No mount point, no resolv.conf, no .containerenv that the image did not have is in a layer (S54)."""
    box.build(box.context("FROM box\nRUN true\n"), "-t", "app", "--isolation", isolation)
    layers = [line for line in box.config("app")["history"] if line["created_by"].startswith("RUN")]
    assert "empty_layer" not in layers[0]
    out = box.files(box.context("FROM app\n"))
    assert sorted(os.listdir(out)) == ["bin", "data", "etc", "home", "tmp", "usr"]
    assert sorted(os.listdir(out / "etc")) == ["group", "passwd"]


def test_copy(box) -> None:
    context = box.context(
        "FROM box\nWORKDIR /w\nCOPY a.txt .\nCOPY a.txt b.txt to/\nCOPY dir /dir\nCOPY *.txt /all/\n"
        "COPY --chown=bob:wheel --chmod=640 a.txt /own/\nCOPY --chown=7:8 dir /seven\nCOPY a.txt /renamed\n"
        'COPY ["with space", "/sp ace/"]\nCOPY dir/link /followed\n',
        a_txt="a",
        b_txt="b",
        dir__x="x",
        dir__sub__y="y",
    )
    (context / "with space").write_text("s")
    (context / "dir/link").symlink_to("x")
    (context / "dir/x").chmod(0o4751)
    out = box.files(context)
    assert sorted(os.listdir(out / "w")) == ["a.txt", "to"]
    assert sorted(os.listdir(out / "w/to")) == ["a.txt", "b.txt"]
    assert (out / "dir/sub/y").read_text() == "y"
    assert os.readlink(out / "dir/link") == "x"
    assert stat.S_IMODE((out / "dir/x").stat().st_mode) == 0o4751
    assert sorted(os.listdir(out / "all")) == ["a.txt", "b.txt"]
    own = (out / "own/a.txt").stat()
    assert (own.st_uid, own.st_gid, stat.S_IMODE(own.st_mode)) == (1000, 10, 0o640)
    assert ((out / "seven/sub/y").stat().st_uid, (out / "seven/sub").stat().st_gid) == (7, 8)
    assert (out / "renamed").read_text() == "a"
    assert (out / "sp ace/with space").exists()
    assert (out / "followed").read_text() == "x" and not (out / "followed").is_symlink()
    assert ((out / "dir/x").stat().st_uid, (out / "dir/x").stat().st_gid) == (0, 0)


def test_copy_between_stages_by_name_number_and_image(box) -> None:
    box.build(box.context("FROM box\nRUN echo other > /other\n"), "-t", "other")
    context = box.context(
        "FROM box AS First\nRUN mkdir /d && echo 1 > /d/one && ln -s one /d/link && chmod 700 /d/one && "
        "echo u > /d/users\nUSER bob\nRUN echo b > /tmp/bobs\nFROM scratch\nCOPY --from=first /d /d\n"
        "COPY --from=0 /tmp/bobs /bobs\nCOPY --from=other /other /\n"
    )
    out = box.files(context)
    assert stat.S_IMODE((out / "d/one").stat().st_mode) == 0o700
    assert os.readlink(out / "d/link") == "one"
    assert (out / "bobs").stat().st_uid == 1000, "a copy from a stage keeps the owner, as in BuildKit"
    assert (out / "other").read_text() == "other\n"


def test_named_contexts(box, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("from the other context")
    layout = tmp_path / "layout"
    box.build(box.context("FROM box\nRUN echo in > /inside\n"), "-o", f"type=oci,dest={layout},tar=false")
    context = box.context("FROM base\nCOPY --from=extra file /file\nCOPY --from=base /inside /copied\n")
    out = box.files(
        context, "--build-context", f"extra={other}", "--build-context", f"base=oci-layout://{layout}"
    )
    assert (out / "file").read_text() == "from the other context"
    assert (out / "copied").read_text() == "in\n"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_add_unpacks_local_archives(box, mode) -> None:
    context = box.context("FROM box\nADD files.tar /opt\nADD plain.txt.gz /opt/\n")
    with tarfile.open(context / "files.tar", mode) as tar:
        info = tarfile.TarInfo("in/file")
        info.size, info.uid, info.mode = 3, 5, 0o600
        tar.addfile(info, io.BytesIO(b"abc"))
    (context / "plain.txt.gz").write_bytes(b"\x1f\x8bnot an archive")
    out = box.files(context)
    assert ((out / "opt/in/file").read_text(), (out / "opt/in/file").stat().st_uid) == ("abc", 5)
    assert (out / "opt/plain.txt.gz").read_bytes() == b"\x1f\x8bnot an archive"


def test_the_options_of_a_run(box, isolation, tmp_path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "in").write_text("from the host")
    context = box.context(
        "FROM box\nRUN cat /etc/hosts > /hosts; cat /etc/resolv.conf > /resolv; ulimit -n > /files; hostname > /name; "
        "cat /mnt/in > /mounted; echo out > /mnt/out; grep CapBnd /proc/self/status > /caps\n"
    )
    out = box.files(
        context,
        *(
            "--isolation",
            isolation,
            "--add-host",
            "db:192.0.2.1",
            "--dns",
            "192.0.2.53",
            "--dns-search",
            "example.org",
        ),
        *("--ulimit", "nofile=100:200", "--hostname", "builder", "-v", f"{shared}:/mnt", "--cap-drop", "all"),
    )
    assert "192.0.2.1\tdb\n" in (out / "hosts").read_text()
    assert (out / "resolv").read_text().startswith("search example.org\nnameserver 192.0.2.53\n")
    assert (out / "files").read_text() == "100\n"
    assert (out / "name").read_text() == "builder\n"
    assert (out / "mounted").read_text() == "from the host"
    assert (shared / "out").read_text() == "out\n"
    assert (out / "caps").read_text().split()[1] == "0" * 16
    assert not (out / "mnt").exists()


@row("X79")
@pytest.mark.parametrize("network", ["none", "host"])
def test_each_network_shows_its_own_devices(box, isolation, network) -> None:
    context = box.context("FROM box\nRUN ls /sys/class/net > /devices; ls -la /proc/self/ns/net > /ns\n")
    out = box.files(context, "--isolation", isolation, "--network", network)
    devices = (out / "devices").read_text().split()
    assert ("lo" in devices) and (network == "host" or devices == ["lo"])
    assert (os.readlink("/proc/self/ns/net") in (out / "ns").read_text()) == (network == "host")


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ("*.txt\n", ["Dockerfile", "dir", "dir/b.txt"]),
        ("**/*.txt\n!dir/b.txt\n", ["Dockerfile", "dir", "dir/b.txt"]),
        ("dir\n# comment\n\n", ["Dockerfile", "a.txt"]),
        ("*\n!a.txt\n", ["a.txt"]),
    ],
)
def test_dockerignore(box, ignore, kept) -> None:
    context = box.context("FROM scratch\nCOPY . /\n", a_txt="a", dir__b_txt="b")
    (context / ".dockerignore").write_text(ignore)
    out = box.files(context)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    assert [name for name in found if name != ".dockerignore"] == kept


def test_where_dockerfile_and_context_may_come_from(box, tmp_path) -> None:
    context = box.context("FROM scratch\nCOPY a.txt /\n", a_txt="a")
    wanted = box.build(context).stdout
    text = (context / "Dockerfile").read_text()
    assert box.build(context, "-f", "-", input=text).stdout == wanted
    tar = tmp_path / "context.tar.gz"
    with tarfile.open(tar, "w:gz") as archive:
        archive.add(context, ".")
    assert box.build(tar).stdout == wanted
    (context / "Dockerfile").rename(context / "Containerfile")
    assert box.build(context).stdout == wanted
    (context / "Containerfile").rename(tmp_path / "elsewhere")
    assert box.build(context, "-f", tmp_path / "elsewhere").stdout == wanted
