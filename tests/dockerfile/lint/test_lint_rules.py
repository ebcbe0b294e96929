"""Every rule with its own examples, buildfront's in detail, and the places that they name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from buildfront.dockerfile import ignore
from buildfront.dockerfile.lint import RULES, LintFinding, LintOptions, lint
from buildfront.dockerfile.lint.findings import apply

WITH_EXAMPLES = [name for name, rule in RULES.items() if rule.bad]


def found(name: str, text: str, **options: object) -> list[LintFinding]:
    name = name if name in RULES else f"buildfront/{name}"
    given = LintOptions(enable=frozenset({name}), **options)  # type: ignore[arg-type]
    result = lint(text, options=given)
    assert result.error is None, result.error
    return [item for item in result.findings if item.rule == name]


def run(name: str, script: str, head: str = "FROM debian:12\n", **options: object) -> list[tuple[int, int]]:
    """Return the lines and columns of what a rule finds in a RUN."""
    return [(item.where.start, item.where.column) for item in found(name, f"{head}RUN {script}\n", **options)]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_rule(name: str) -> None:
    rule = RULES[name]
    patterns = ignore.parse("ignored\n")
    (item, *_) = found(name, rule.bad, ignore=patterns)
    assert item.description == rule.description and item.why == rule.why and item.url == rule.url
    assert found(name, rule.good, ignore=patterns) == []
    if item.fix is not None:
        assert found(name, apply(rule.bad, (item.fix,)), ignore=patterns) == []


def test_every_rule_but_one_has_examples() -> None:
    assert set(RULES) - set(WITH_EXAMPLES) == {"InvalidBaseImagePlatform"}
    assert all(rule.why and rule.mend and rule.description for rule in RULES.values())


@pytest.mark.parametrize(
    ("name", "script", "places"),
    [
        ("AptGetWithoutUpdate", "apt-get install -y a", [(2, 5)]),
        ("AptGetWithoutUpdate", "set -e; \\\n  apt-get -y install a", [(3, 3)]),
        ("AptGetWithoutUpdate", "apt-get -qq update; apt-get install -y a", []),
        ("AptGetWithoutUpdate", "apt-get install -y ./a.deb", []),
        ("AptGetWithoutUpdate", "echo 'apt-get install a' \"apt-get install a\" # apt-get install a", []),
        ("AptGetWithoutUpdate", "--mount=type=cache,target=/var/lib/apt apt-get install -y a", []),
        ("AptGetWithoutUpdate", "<<EOF\nset -e\nFOO=1 apt-get install -y a\nEOF", [(4, 7)]),
        ("AptGetWithoutUpdate", "cat <<EOF >/x\napt-get install -y a\nEOF", []),
        ("AptGetWithoutUpdate", '["apt-get", "install", "-y", "a"]', [(2, 0)]),
        ("InstallAsksQuestions", "apt-get install a", [(2, 5)]),
        (
            "InstallAsksQuestions",
            "apt-get install -qqy a && apt-get --yes upgrade && yes | apt-get install a",
            [],
        ),
        ("InstallAsksQuestions", "apt-get -o APT::Get::Assume-Yes=true install a", []),
        ("InstallAsksQuestions", "dnf install a && yum -y install b && microdnf install c", [(2, 5)]),
        ("InstallAsksQuestions", "zypper in a; zypper -n in a", [(2, 5)]),
        ("AptGetRecommends", "apt-get install --no-install-recommends a", []),
        ("AptGetRecommends", "apt-get -o APT::Install-Recommends=false install a", []),
        ("AptGetRecommends", "sudo -u root DEBIAN_FRONTEND=x apt-get install a", [(2, 5)]),
        ("AptInScript", "apt install -y a && apt-cache show b && echo apt install", [(2, 5)]),
        ("AptInScript", "which apt", []),
        ("ApkCache", "apk add a && rm -rf /var/cache/apk/*", []),
        ("ApkCache", "--mount=type=cache,target=/var/cache/apk apk add a", []),
        ("ApkCache", "apk --no-cache add a", []),
        ("ApkCache", "apk --update add a", [(2, 5)]),
        ("CacheInLayer", "apt-get update && rm -rf /var/lib/apt/lists/*", []),
        ("CacheInLayer", "apt-get update && rm -rf /var/lib/apt", []),
        ("CacheInLayer", "apt-get update && rm -rf /tmp", [(2, 5)]),
        ("CacheInLayer", "--mount=type=cache,target=/var/lib/apt apt-get update", []),
        ("CacheInLayer", "apt-get update; apt-get install -y a; apt-get dist-clean", []),
        ("CacheInLayer", "apt update && apt distclean && apt update", [(2, 36)]),
        ("CacheInLayer", "dnf -y install a && dnf clean all", []),
        ("CacheInLayer", "yum -y install a", [(2, 5)]),
        ("CacheInLayer", "pip install a; python3 -m pip install b", [(2, 5)]),
        ("CacheInLayer", "pip install --no-cache-dir a", []),
        ("CacheInLayer", "PIP_NO_CACHE_DIR=1 pip install a", []),
        ("CacheInLayer", "--mount=type=cache,target=/root/.cache pip install a", []),
        ("Sudo", "id && sudo id; echo 'sudo id' sudo", [(2, 11)]),
        ("Sudo", 'if sudo id; then echo "$(sudo id)"; fi', [(2, 8)]),
        ("CdInRun", "cd /a && b", [(2, 5)]),
        ("CdInRun", "(cd /a && b)", []),
        ("CdInRun", "cd a && b", []),
        ("CdInRun", "b && cd /a && c", []),
        ("CdInRun", "cd /a", []),
        ("PipeWithoutPipefail", "a | b", [(2, 5)]),
        ("PipeWithoutPipefail", "set -o pipefail && a | b", []),
        ("PipeWithoutPipefail", "set -euxo pipefail; a | b", []),
        ("PipeWithoutPipefail", "echo a | b && printf x | c", []),
        ("PipeWithoutPipefail", "a || b; x='c | d'; case $x in a|b) c;; esac", []),
        ("PipeWithoutPipefail", "echo a | b | c", [(2, 14)]),
        ("PipeWithoutPipefail", '["/bin/sh", "-c", "a | b"]', [(2, 0)]),
        ("PipeWithoutPipefail", '["a", "|", "b"]', []),
        ("PipeWithoutPipefail", "a \\\n  # a comment\n  | b", [(2, 5)]),
        ("DownloadToShell", "curl -sL https://x | sudo -E bash -", [(2, 5)]),
        ("DownloadToShell", "wget -O- https://x | tee y | sh", [(2, 5)]),
        ("DownloadToShell", "curl https://x | python3 -c 'import sys' && curl https://y | tar xz", []),
        ("DownloadToShell", "curl https://x -o y && sh y", []),
    ],
)
def test_what_is_found_in_a_script(name: str, script: str, places: list[tuple[int, int]]) -> None:
    assert run(name, script) == places


def test_the_shell_and_the_environment_of_the_stage_count() -> None:
    bash = 'FROM debian:12\nSHELL ["/bin/bash", "-euo", "pipefail", "-c"]\n'
    assert run("PipeWithoutPipefail", "a | b", bash) == []
    assert run("PipeWithoutPipefail", "a | b", 'FROM x:1\nSHELL ["pwsh", "-c"]\n') == []
    assert run("CacheInLayer", "pip install a", "FROM python:3\nENV PIP_NO_CACHE_DIR=1\n") == []
    base = {
        "python:3": {"config": {"Env": ["PIP_NO_CACHE_DIR=1"], "Shell": ["bash", "-o", "pipefail", "-c"]}}
    }
    assert run("CacheInLayer", "pip install a", "FROM python:3\n", bases=base) == []
    assert run("PipeWithoutPipefail", "a | b", "FROM python:3\n", bases=base) == []


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("LatestTag", "FROM a\nFROM b:latest\nFROM c:1\nFROM scratch\nFROM d@sha256:" + "0" * 64, [1, 2]),
        ("LatestTag", "ARG T=1\nFROM a:$T AS x\nFROM x\nFROM localhost:5000/b", [4]),
        ("UnpinnedDigest", "FROM a:1\nFROM b@sha256:" + "0" * 64, [1]),
        ("AddForCopy", "FROM a:1\nADD f /\nADD a.tar.gz /\nADD https://x/y /\nADD x* /\nADD d /d", [2, 6]),
        ("AddForCopy", "FROM a:1\nADD --checksum=sha256:" + "0" * 64 + " f /\n", []),
        ("RootUser", "FROM a:1\nUSER app\nUSER 0:0", [3]),
        ("RootUser", "FROM a:1 AS x\nUSER root\nFROM a:1\nUSER app", []),
        ("RootUser", "FROM a:1\nUSER root\nUSER app", []),
        ("RootUser", "FROM a:1\nRUN id", []),
        ("CopyBeforeDependencies", "FROM a:1\nCOPY . .\nRUN npm ci && npm run build", [2]),
        (
            "CopyBeforeDependencies",
            "FROM a:1\nCOPY package*.json .\nRUN npm ci\nCOPY . .\nRUN npm install",
            [],
        ),
        ("CopyBeforeDependencies", "FROM a:1\nCOPY --from=0 . .\nRUN npm ci", []),
        ("CopyBeforeDependencies", "FROM a:1\nADD ./ /app\nRUN cd /app; go mod download", [2]),
        ("CopyBeforeDependencies", "FROM a:1\nCOPY . .\nRUN npm install left-pad\nRUN pip install .", []),
        ("CopyBeforeDependencies", "FROM a:1\nCOPY . .\nFROM a:1\nRUN yarn", []),
        ("CopyBeforeDependencies", "FROM a:1\nCOPY . .\nRUN yarn", [2]),
        ("SecretInLayer", "FROM a:1\nCOPY .env /\nCOPY .env.example /\nADD deploy/id_ed25519 /k", [2, 4]),
        ("SecretInLayer", "FROM a:1\nCOPY --from=0 id_rsa /", []),
        ("SecretInLayer", "FROM a:1\nENV T=ghp_" + "a" * 36 + "\nRUN x \\\n  glpat-" + "b" * 20, [2, 4]),
        ("SecretInLayer", "FROM a:1\nRUN <<E\n-----BEGIN RSA PRIVATE KEY-----\nE", [3]),
    ],
)
def test_what_is_found_in_stages(name: str, text: str, lines: list[int]) -> None:
    assert [item.where.start for item in found(name, text + "\n")] == lines


def test_a_secret_in_the_context() -> None:
    files = ("a", "src/.netrc", "deep/in/id_rsa", "deep/id_rsa.pub", "x.key.txt")
    assert [
        item.message.split()[0] for item in found("SecretInLayer", "FROM a\nCOPY . /\n", files=files)
    ] == [
        "src/.netrc",
        "deep/in/id_rsa",
    ]
    assert [
        item.message.split()[0]
        for item in found("SecretInLayer", "FROM a\nCOPY deep sr?/.net* /\n", files=files)
    ] == ["deep/in/id_rsa", "src/.netrc"]
    left_out = ignore.parse("id_rsa\n")
    assert found("SecretInLayer", "FROM a\nCOPY id_rsa /\n", ignore=left_out) == []


def test_a_token_is_not_shown() -> None:
    token = "ghp_" + "S" * 36
    (item,) = found("SecretInLayer", f"FROM a:1\nENV A=b TOKEN={token}\n")
    assert token not in item.message and "ghp_SSSS…" in item.message
    assert (item.where.start, item.where.column) == (2, 15)


def test_the_seconds_that_a_step_takes() -> None:
    text = "FROM a:1\nCOPY . .\nRUN npm ci\n"
    (item,) = found("CopyBeforeDependencies", text, seconds={3: 12.34})
    assert "(line 3, 12.3 s the last time)" in item.message


def test_a_user_of_a_base_image_that_is_known() -> None:
    text = "FROM a:1\nRUN id\n"
    assert [item.where.start for item in found("RootUser", text, bases={"a:1": {"config": {}}})] == [1]
    assert found("RootUser", text, bases={"a:1": {"config": {"User": "app"}}}) == []


def test_a_build_does_not_load_the_rules_that_are_off() -> None:
    code = (
        "import sys; from buildfront.dockerfile.lint import lint; lint('FROM a\\nRUN sudo b\\n')\n"
        "print(*[name for name in sys.modules if name.endswith(('own_rules', '.script', 'sarif', 'difflib'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
