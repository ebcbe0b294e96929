"""The public API: its names, their documentation, and that the command line needs nothing else."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import click
import pytest

import buildfront
from buildfront.cli.option_groups import RUN_OPTIONS, shared

FUNCTIONS = {
    "build",
    "check",
    "create_progress",
    "decimal_size",
    "default_root",
    "doctor",
    "enter_user_namespace",
    "images",
    "import_rootfs",
    "info",
    "inspect",
    "load",
    "open_agents",
    "outline",
    "parse_output",
    "parse_prune_filters",
    "plan",
    "prune",
    "pull",
    "push",
    "read_secrets",
    "run_defaults",
    "spec",
    "step_line",
    "tag",
    "targets",
    "visible",
}
TYPES = {
    "BuildError",
    "BuildOptions",
    "BuildOutcome",
    "BuildOutline",
    "BuildPlan",
    "CacheMount",
    "CheckReport",
    "Event",
    "Finding",
    "HostFacts",
    "ImageSummary",
    "LintFinding",
    "Output",
    "Progress",
    "RunOptions",
    "RunRequest",
    "RunSpec",
    "Secret",
    "SourceRange",
    "StoreInfo",
    "TargetList",
}


def test_the_names() -> None:
    assert set(buildfront.__all__) == FUNCTIONS | TYPES | {"__version__"}
    assert set(dir(buildfront)) >= set(buildfront.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        buildfront.nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(FUNCTIONS | TYPES))
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(buildfront, name)
    assert isinstance(value, type) == (name in TYPES)
    assert value.__doc__ and not value.__doc__.startswith(f"{name}("), "a dataclass writes that by itself"


@pytest.mark.parametrize("name", sorted(FUNCTIONS | TYPES))
def test_a_name_is_what_it_says_whatever_was_imported_before(name: str) -> None:
    code = (
        "import buildfront, buildfront.cli, buildfront.api.build, buildfront.api.doctor, buildfront.api.plan\n"
        f"from buildfront import {name} as imported\n"
        f"assert imported is buildfront.{name} and imported.__name__ == {name!r}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_submodule_has_a_public_name() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(buildfront.__path__)}
    assert not submodules & set(buildfront.__all__)


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import buildfront, sys; print(*sorted(name for name in sys.modules if 'buildfront' in name))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["buildfront", "buildfront.version"]


def test_the_command_line_uses_the_public_api_only() -> None:
    """Each attribute of the package that it names is public; import-linter holds that it imports no other module."""
    used = set()
    for path in (Path(buildfront.__file__).parent / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "buildfront"
            ):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module == "buildfront":
                used |= {item.name for item in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level < 2, f"{path.name} imports from above"
    assert used <= set(buildfront.__all__)
    assert used >= {"build", "plan", "spec", "images", "BuildError"}


def test_the_options_of_a_run_are_those_of_the_command_line() -> None:
    @click.command()
    @shared
    def command() -> None: ...

    declared = {parameter.name for parameter in command.params}
    assert set(RUN_OPTIONS) == set(get_type_hints(buildfront.RunOptions)) <= declared


def test_run_defaults_reads_texts() -> None:
    request = buildfront.run_defaults(
        memory="1.5g", ulimits=("nofile=10",), pid="host", userns_uid_map=("0:1:2",), http_proxy=False
    )
    assert request.resources.memory == 3 << 29
    assert (request.ulimits, request.http_proxy, request.isolation) == (("nofile=10",), False, "auto")
    assert [(space.name, space.host) for space in request.namespaces] == [("pid", True)]
    assert len(request.uid_map) == 1
    with pytest.raises(buildfront.BuildError, match="'odd'") as caught:
        buildfront.run_defaults(ulimits=("odd",))
    assert caught.value.status == 2


def test_secrets_and_agents_by_id(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from a file")
    texts = [f"id=a,src={tmp_path}/file", "id=b,env=B"]
    found = buildfront.read_secrets(texts, {"B": "from a variable"})
    assert {name: secret.data for name, secret in found.items()} == {
        "a": b"from a file",
        "b": b"from a variable",
    }
    with pytest.raises(buildfront.BuildError, match="given twice"):
        buildfront.read_secrets([texts[0], texts[0]])
    with pytest.raises(buildfront.BuildError, match="SSH_AUTH_SOCK is not set"):
        buildfront.open_agents(["default"], {})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pull": "sometimes"}, "known are missing, always"),
        ({"compression": "xz"}, "unknown compression 'xz'"),
        ({"compression": "zstd", "compression_level": 23}, "zstd has the levels 0 to 22"),
        ({"compression_level": 10}, "gzip has the levels 0 to 9"),
        ({"compression_level": -1}, "gzip has the levels 0 to 9"),
        ({"allow": ("network.hots",)}, "did you mean network.host?"),
    ],
)
def test_unknown_values_of_build_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(buildfront.BuildError) as caught:
        buildfront.BuildOptions(**options)  # type: ignore[arg-type]
    assert words in str(caught.value) and caught.value.status == 2


def test_a_build_from_python(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nCOPY a /\n")
    (tmp_path / "context" / "a").write_text("1")
    root = str(tmp_path / "store")
    options = buildfront.BuildOptions(str(tmp_path / "context"), tags=("app",), root=root)
    assert buildfront.plan(options).cache == {0: "cached", 1: "to do"}
    events: list[buildfront.Event] = []
    first = buildfront.build(options, events.append)
    assert (first.cached, first.inputs) == (False, None)
    assert {"graph", "start", "done"} <= {event.kind for event in events}

    second = buildfront.build(options)
    assert second.cached and second.image_id == first.image_id and second.blobs == first.blobs
    assert second.inputs is not None and str(tmp_path / "context" / "a") in second.inputs
    plan = buildfront.plan(options)
    assert plan.cache == {0: "cached", 1: "cached"}
    assert plan.to_json()["steps"][1]["cache"] == "cached"
    assert "COPY a /" in plan.render() and plan.render("dot").startswith("digraph")
    with pytest.raises(buildfront.BuildError, match="unknown format"):
        plan.render("xml")

    (image,) = buildfront.images(root)
    assert (image.image_id, image.digest, image.familiar_name) == (first.image_id, first.digest, "app:latest")
    assert buildfront.tag("app", "other", root).endswith("/other:latest")
    assert buildfront.inspect("other", root)["id"] == first.image_id
    found = buildfront.info(root)
    assert (found.images, found.blobs, found.cache_mounts) == (2, 3, ())
    assert buildfront.prune((), root) == []


def test_an_archive_from_a_stream(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    output = buildfront.parse_output(f"type=oci,dest={tmp_path}/image.tar")
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    built = buildfront.build(buildfront.BuildOptions(str(tmp_path), outputs=(output,), root=one))
    with (tmp_path / "image.tar").open("rb") as stream:
        assert buildfront.load(stream, names=("copy",), root=other) == [str(buildfront.images(other)[0].name)]
    assert [image.digest for image in buildfront.images(other)] == [built.digest]
