"""``buildfront check``, ``build --check`` and ``--call``, and the findings at the end of a build."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

import buildfront
from buildfront.context.rewrite import rewrite

BAD = "FROM box as Base\nWORKDIR app\ncopy a /\nENV x y z\n"
GOOD = 'FROM box AS base\nWORKDIR /app\nCOPY a /\nENV x="y z"\n'


def rules(done) -> list[str]:
    return [item["ruleName"] for item in json.loads(done.stdout)["warnings"]]


def test_check_prints_findings_and_fails_only_for_errors(box) -> None:
    context = box.context(BAD, a="1")
    done = box("check", context)
    assert done.stdout.startswith(
        "Check complete, 5 warnings have been found!\n\nWARNING: StageNameCasing - https://"
    )
    assert "why: " in done.stdout and "--fix: FROM box AS Base" in done.stdout
    assert done.stderr == ""
    assert box("check", "--error", context, check=False).returncode == 1
    assert box("check", "--error=FromAsCasing", context, check=False).returncode == 1
    assert box("check", "--error=UndefinedVar", context).returncode == 0
    assert box("check", "--error", "--skip", "all", context).stdout == "Check complete, no warnings found.\n"
    some = box(
        "check",
        "--format",
        "json",
        "--skip",
        "StageNameCasing,FromAsCasing",
        "--skip=WorkdirRelativePath",
        context,
    )
    assert rules(some) == ["ConsistentInstructionCasing", "LegacyKeyValueFormat"]


def test_the_directive_and_the_build_argument_make_findings_errors(box) -> None:
    context = box.context("# check=error=true\nFROM scratch\nWORKDIR a\n")
    assert box("check", context, check=False).returncode == 1
    given = ("--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=WorkdirRelativePath")
    assert box("check", *given, context).returncode == 0


def test_an_unknown_rule_or_format(box) -> None:
    context = box.context("FROM scratch\n")
    done = box("check", "--skip", "FromAsCase", context, check=False)
    assert done.returncode == 2 and "did you mean FromAsCasing?" in done.stderr
    assert box("check", "--format", "xml", context, check=False).returncode == 2
    assert box("check", "--fix=all", context, check=False).returncode == 2


def test_a_dockerfile_that_can_not_be_built_in_every_format(box) -> None:
    context = box.context("FROM scratch as a\nCOPY --form=a b /\n")
    done = box("check", context, check=False)
    assert done.returncode == 1 and "FromAsCasing" in done.stdout and "form" in done.stdout.split("\n\n")[-1]
    value = json.loads(box("check", "--format", "json", context, check=False).stdout)
    assert value["buildError"]["location"]["ranges"][0]["start"]["line"] == 2
    assert "::error file=" in box("check", "--format", "github", context, check=False).stdout
    value = json.loads(box("check", "--format", "sarif", context, check=False).stdout)
    assert [item["ruleId"] for item in value["runs"][0]["results"]] == ["FromAsCasing", "BuildError"]
    later = box.context("FROM scratch AS a\nCOPY --from=b c /\nFROM scratch AS b\n")
    assert box("check", later, check=False).returncode in (0, 1)
    missing = box.context("FROM scratch AS a\nFROM a\nCOPY --from=7 c /\n")
    assert box("check", missing, check=False).returncode == 1


def test_a_check_knows_the_images_of_the_store_and_needs_none(box, tmp_path) -> None:
    context = box.context("FROM box\nENV a=$PAHT$HOME_OF_ALL\n")
    assert rules(box("check", "--format=json", context)) == ["UndefinedVar", "UndefinedVar"]
    elsewhere = str(tmp_path / "no-store")
    unknown = box("--root", elsewhere, "check", "--format=json", context)
    assert rules(unknown) == ["UndefinedVar"]
    assert not os.path.exists(elsewhere)


def test_the_output_can_be_a_file(box, tmp_path) -> None:
    context = box.context(BAD, a="1")
    done = box("check", "--format", "sarif", "-o", tmp_path / "log.sarif", context)
    assert done.stdout == ""
    assert json.loads((tmp_path / "log.sarif").read_text())["version"] == "2.1.0"
    assert box("check", "-o", tmp_path / "no" / "where", context, check=False).returncode == 1


def test_a_secret_in_the_context_is_found_where_it_is_asked_for(box) -> None:
    context = box.context("FROM scratch\nCOPY . /\n", app__id_rsa="x", out__env="1")
    (context / ".env").write_text("x")
    (context / ".dockerignore").write_text("app\n")
    assert rules(box("check", "--format", "json", context)) == []
    done = box("check", "--format", "json", "--enable", "buildfront/SecretInLayer", context)
    assert [item["detail"].split()[0] for item in json.loads(done.stdout)["warnings"]] == [".env"]
    assert "buildfront/SecretInLayer" in rules(box("check", "--format", "json", "--enable", "all", context))


def test_fix_mends_the_file_and_keeps_what_it_does_not_mend(box) -> None:
    context = box.context(BAD, a="1")
    file = context / "Dockerfile"
    file.write_bytes(b"# caf\xe9\r\n#\r\n#\r\n#\r\n" + BAD.replace("\n", "\r\n").encode())
    file.chmod(0o640)
    shown = box("check", "--diff", context)
    assert "-FROM box as Base" in shown.stdout and "+FROM box AS base" in shown.stdout
    assert file.read_bytes().endswith(b"ENV x y z\r\n")
    done = box("check", "--fix", context)
    assert done.stdout == "Check complete, no warnings found.\n" and "is mended" in done.stderr
    assert file.read_bytes() == b"# caf\xe9\r\n#\r\n#\r\n#\r\n" + GOOD.replace("\n", "\r\n").encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    again = box("check", "--fix", context)
    assert again.stderr == ""
    assert [path.name for path in context.iterdir() if path.name.startswith(".")] == []


def test_fix_never_writes_through_a_link(box, tmp_path) -> None:
    real = tmp_path / "real"
    real.write_text(BAD)
    context = box.context("", a="1")
    (context / "Dockerfile").unlink()
    (context / "Dockerfile").symlink_to(real)
    assert box("check", "--fix", context, check=False).returncode == 1
    done = box("check", "--fix", "-f", context / "Dockerfile", context, check=False)
    assert done.returncode == 1 and "is a link" in done.stderr
    assert real.read_text() == BAD
    done = box("check", "--fix", "-f", "-", context, input=BAD, check=False)
    assert done.returncode == 1 and "can be changed" in done.stderr


def test_a_file_that_has_changed_since_is_not_overwritten(tmp_path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("other")
    with pytest.raises(buildfront.BuildError, match="has changed since"):
        rewrite(str(file), "before", "after")
    assert file.read_text() == "other" and os.listdir(tmp_path) == ["Dockerfile"]
    rewrite(str(file), "other", "after")
    assert file.read_text() == "after"
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(buildfront.BuildError, match="not a regular file"):
        rewrite(str(tmp_path / "fifo"), "", "after")
    with pytest.raises(buildfront.BuildError, match="can't be written"):
        rewrite(str(tmp_path / "nothing"), "", "after")


def test_unsafe_fixes_must_be_asked_for(box) -> None:
    context = box.context("FROM scratch\nMAINTAINER me\n")
    box("check", "--fix", context)
    assert "MAINTAINER" in (context / "Dockerfile").read_text()
    box("check", "--fix=unsafe", context)
    assert 'LABEL org.opencontainers.image.authors="me"' in (context / "Dockerfile").read_text()


MENDED = [
    BAD,
    "from box as Base\nrun echo \\\n\n  # c\n  1 > /one\nFROM Base\n"
    "Expose 80/TCP 127.0.0.1:8080:81/udp 9000:9000\nEXPOSE 1/TCP 2:2/Udp\n",
    "FROM --platform=$TARGETPLATFORM box\nLABEL a $HOME x\nENV b c\nLABEL d 'e f'\nWORKDIR x/../y\nWORKDIR z\n",
    "# escape=`\nFROM box\nCOPY a `\n\n /b\nWorkDir /c\nCMD a b\nMAINTAINER me\n",
    "FROM box AS Stage\r\nRUN echo 1 > /a \\\r\n\r\n && echo 2 >> /a\r\nFROM box\r\nCOPY --from=STAGE /a /b\r\n",
    "# what it is\nARG x=1\nFROM box\n# what it is\nARG x\nONBUILD copy a /\nRUN <<E\necho $x > /x\n\nE\n",
]


@pytest.mark.parametrize("text", MENDED)
def test_a_mended_dockerfile_makes_the_same_image(box, text) -> None:
    context = box.context("", a="1")
    file = context / "Dockerfile"
    file.write_bytes(text.encode())
    enable = ("--enable", "InvalidDefinitionDescription")
    before = box.build(context)
    box("check", "--fix", *enable, context)
    once = file.read_bytes()
    assert once != text.encode()
    box("check", "--fix", *enable, context)
    assert file.read_bytes() == once
    after = box.build(context)
    assert after.stdout == before.stdout, "the image ID is that of the config, with its history and layers"
    assert "DONE" not in after.stderr, "every step has the same key"
    box("build", "--no-cache", "-o", f"type=local,dest={box.path / 'anew'}", context)
    assert tree(box.files(box.context(text, a="1"))) == tree(box.path / "anew")


def tree(path: Path) -> dict[str, object]:
    """Return what a directory holds, without times."""
    found: dict[str, object] = {}
    for item in sorted(path.rglob("*")):
        status = item.lstat()
        content = os.readlink(item) if item.is_symlink() else item.read_bytes() if item.is_file() else None
        found[str(item.relative_to(path))] = (
            stat.S_IFMT(status.st_mode),
            stat.S_IMODE(status.st_mode),
            content,
        )
    return found


def test_a_build_ends_with_its_findings(box) -> None:
    context = box.context(BAD, a="1")
    done = box("build", "--progress", "plain", context)
    block = done.stderr[done.stderr.index("\n 5 warnings found") :]
    assert block.splitlines()[1:3] == [
        " 5 warnings found (use --check to expand):",
        " - StageNameCasing: Stage name 'Base' should be lowercase (line 1)",
    ]
    cached = box("build", "--progress", "plain", context)
    assert cached.stderr.endswith(block)
    again = box("build", "--progress", "plain", context)
    assert (again.stdout, again.stderr) == (cached.stdout, cached.stderr)
    assert box("build", "-q", context).stderr == ""
    assert "warnings found" not in box("build", "--progress", "rawjson", context).stderr
    assert "warning" not in box("build", box.context("FROM box\n")).stderr


def test_only_what_is_built_is_checked(box) -> None:
    context = box.context("FROM box AS a\nWORKDIR x\nFROM box AS b\nUSER bob\n")
    assert "WorkdirRelativePath" not in box("build", context).stderr
    assert "WorkdirRelativePath" in box("build", "--target", "a", context).stderr
    assert rules(box("check", "--format", "json", context)) == ["WorkdirRelativePath"]
    assert rules(box("check", "--format", "json", "--target", "b", context)) == []


def test_findings_that_are_errors_end_a_build_before_any_step(box) -> None:
    context = box.context("# check=error=true\nFROM box\nRUN echo ran\nWORKDIR a\nCMD x\n")
    done = box("build", "--progress", "plain", context, check=False)
    assert done.returncode == 1
    assert "lint violation found for rules: WorkdirRelativePath, JSONArgsRecommended" in done.stderr
    assert "Dockerfile:4" in done.stderr and "ran" not in done.stderr.replace("RUN echo ran", "")
    given = ("--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all")
    assert box("build", *given, context).returncode == 0
    wrong = box("build", box.context("# check=what\nFROM box\n"), check=False)
    assert wrong.returncode == 1 and "Dockerfile:1" in wrong.stderr and "check=what" in wrong.stderr


def test_check_as_docker_spells_it(box) -> None:
    context = box.context(BAD, a="1")
    done = box("build", "--check", context, check=False)
    assert done.returncode == 1 and "why:" not in done.stdout and done.stderr == ""
    assert done.stdout.startswith("Check complete, 5 warnings have been found!\n\nWARNING: StageNameCasing")
    assert done.stdout == box("build", "--call=check", context, check=False).stdout
    assert box("build", "--call=check,ignorestatus=true", context).returncode == 0
    clean = box("build", "--check", box.context("FROM box\n"))
    assert clean.stdout == "Check complete, no warnings found.\n"
    value = box("build", "--call=check,format=json", context, check=False)
    assert set(json.loads(value.stdout)["warnings"][0]) == {
        "ruleName",
        "description",
        "url",
        "detail",
        "location",
    }
    broken = box("build", "--check", box.context("FROM box as a\nWHAT\n"), check=False)
    assert broken.returncode == 1 and "FromAsCasing" in broken.stdout and "Dockerfile:2" in broken.stderr


def test_outline_and_targets(box) -> None:
    context = box.context(
        "# LEVEL how much\nARG LEVEL=1\n# base what all have\nFROM box:$LEVEL AS base\nFROM base\nARG A=2\n"
    )
    assert box("build", "--call=targets", context).stdout == (
        "TARGET    DESCRIPTION\nbase      what all have\n(default) \n"
    )
    assert box("build", "--call=outline", context).stdout == (
        "BUILD ARG   VALUE   DESCRIPTION\nLEVEL       1       how much\nA           2       \n\n"
    )
    value = json.loads(box("build", "--call=outline,format=json", "--target", "base", context).stdout)
    assert [item["name"] for item in value["args"]] == ["LEVEL"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--call=nothing",), "known are build, check, outline, targets"),
        (("--call=check,format=xml",), "'format=xml' is not understood"),
        (("--call=check,outline",), "'outline' is not understood"),
        (("--call=check", "--check"), "both are given"),
    ],
)
def test_a_call_that_is_not_understood(box, args, words) -> None:
    done = box("build", *args, box.context("FROM box\n"), check=False)
    assert done.returncode == 2 and words in done.stderr


def test_the_functions_behind_it(box) -> None:
    context = box.context(BAD, a="1")
    options = buildfront.BuildOptions(str(context), root=str(box.store))
    report = buildfront.check(options, errors=["FromAsCasing"])
    assert report.failed and report.error is None
    assert [item.rule for item in report.findings][:2] == ["StageNameCasing", "FromAsCasing"]
    assert isinstance(report.findings[0], buildfront.LintFinding)
    assert report.fixed() == GOOD
    with pytest.raises(buildfront.BuildError, match="unknown format"):
        report.render("xml")
    assert buildfront.targets(options).targets[0].name == "base"
    assert buildfront.outline(options).name == "base"


def test_the_seconds_that_a_late_list_of_dependencies_costs(box) -> None:
    context = box.context("FROM box\nCOPY . /src\nRUN npm ci || true\n")
    args = ("check", "--format", "json", "--enable", "buildfront/CopyBeforeDependencies", context)
    (before,) = json.loads(box(*args).stdout)["warnings"]
    assert "(line 3): copy package.json" in before["detail"]
    box.build(context)
    (after,) = json.loads(box(*args).stdout)["warnings"]
    assert "(line 3, " in after["detail"] and " s the last time): copy package.json" in after["detail"]


def test_a_context_that_is_an_archive(box, tmp_path) -> None:
    context = box.context(BAD, a="1")
    with tarfile.open(tmp_path / "context.tar", "w") as tar:
        tar.add(context, ".")
    done = box("check", "--format", "github", tmp_path / "context.tar")
    assert done.stdout.startswith("::warning file=Dockerfile,line=1,endLine=1,title=StageNameCasing::")
    refused = box("check", "--fix", tmp_path / "context.tar", check=False)
    assert refused.returncode == 1 and "no file that can be changed" in refused.stderr
    assert list((box.store / "tmp").iterdir()) == []


def test_a_dockerfile_elsewhere_is_named_by_its_path(box, tmp_path) -> None:
    context = box.context("FROM box\n")
    (tmp_path / "else where").mkdir()
    file = tmp_path / "else where" / "My%Dockerfile"
    file.write_text("FROM box as a\n")
    done = box("check", "--format", "github", "-f", "else where/My%Dockerfile", context, cwd=tmp_path)
    assert done.stdout.startswith("::warning file=else where/My%25Dockerfile,line=1,")
    box("check", "--fix", "-f", "else where/My%Dockerfile", context, cwd=tmp_path)
    assert file.read_text() == "FROM box AS a\n"
