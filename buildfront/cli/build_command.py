"""``buildfront build``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

import buildfront
from buildfront import BuildError

from .calls import answer, parse_call, warnings_text
from .option_groups import GroupedCommand, build_options, option, shared
from .program import Program

if TYPE_CHECKING:
    from buildfront import BuildOutcome


@click.command("build", cls=GroupedCommand)
@shared
@option(
    "Output", "-o", "--output", "outputs", multiple=True, metavar="SPEC", help="type=oci,dest=FILE and so on"
)
@option("Output", "--push", is_flag=True, help="push to the registry of the tag")
@option("Output", "--load", is_flag=True, help="keep the image in the store (it always is)")
@option("Output", "--iidfile", default="", metavar="FILE", help="write the image ID there")
@option(
    "Output", "--metadata-file", default="", metavar="FILE", help="write a JSON object about the image there"
)
@option("Output", "-q", "--quiet", is_flag=True, help="print only the image ID")
@option(
    "Output",
    "--compression",
    default="gzip",
    metavar="[gzip|zstd|uncompressed]",
    help="compression of new layers",
)
@option("Output", "--compression-level", type=int, default=None, help="how hard to compress")
@option(
    "Run", "--jobs", type=click.IntRange(min=0), default=0, metavar="N", help="steps side by side; 0 chooses"
)
@option(
    "Run",
    "--progress",
    default="auto",
    metavar="[auto|tty|plain|rawjson|quiet]",
    help="how progress is shown",
)
@option("Run", "--run-step", default="local", metavar="NAME", help="the RUN executor, by its entry point")
@option("RUN step", "--stdin", is_flag=True, help="let steps read our standard input, one after the other")
@option(
    "Run",
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="stop a step that takes longer",
)
@option("Other", "--check", is_flag=True, help="check the Dockerfile and build nothing: --call=check")
@option(
    "Other",
    "--call",
    default="",
    metavar="[check|outline|targets][,format=json]",
    help="print what the Dockerfile says, and build nothing",
)
@click.pass_obj
def build_command(program: Program, /, **values: Any) -> int:
    """Build an image from CONTEXT: a directory, a tar file, or - for a tar on stdin."""
    call = parse_call(values["call"], check=values["check"])
    outputs = tuple(buildfront.parse_output(text) for text in values["outputs"])
    if values["push"]:
        outputs += (buildfront.Output("registry", push=True),)
    named = values["tags"] or any(output.name for output in outputs)
    if any(output.push for output in outputs) and not named:
        raise BuildError("pushing needs a name", hint="give one with -t", status=2)
    options = build_options(
        values,
        program.root,
        outputs=outputs,
        compression=values["compression"],
        compression_level=values["compression_level"],
        jobs=values["jobs"],
        run_step=values["run_step"],
        timeout=values["timeout"],
        stdin=_input(values) if values["stdin"] else None,
    )
    if call.name != "build":
        return answer(call, options)
    program.become_root()
    progress = buildfront.create_progress("quiet" if values["quiet"] else values["progress"])
    try:
        outcome = buildfront.build(options, progress)
    finally:
        progress.close()
    names = ""
    if not values["quiet"] and values["progress"] not in ("rawjson", "quiet"):
        names = "".join(f"named {name}\n" for name in outcome.names)
    warnings = ""
    if not values["quiet"] and values["progress"] not in ("rawjson", "quiet"):
        warnings = warnings_text(outcome.findings)
    if outcome.cached and progress.printed is not None:
        program.remember(outcome, progress.printed + names + warnings)
    _write_files(values, outcome)
    to_stdout = any(output.dest == "-" for output in outputs)
    click.echo(outcome.image_id, file=sys.stderr if to_stdout else sys.stdout)
    click.echo(names + warnings, err=True, nl=False)
    return 0


def _input(values: dict[str, Any]) -> int:
    """Return the descriptor that steps may read. Raises BuildError where something else is read from it."""
    if values["context"] == "-" or values["dockerfile"] == "-":
        raise BuildError(
            "--stdin: standard input is the context or the Dockerfile already", hint="name a file", status=2
        )
    return 0


def _write_files(values: dict[str, Any], outcome: BuildOutcome) -> None:
    """Write the files of ``--iidfile`` and ``--metadata-file``."""
    if values["iidfile"]:
        _write(values["iidfile"], outcome.image_id)
    if values["metadata_file"]:
        data = {
            "containerimage.digest": outcome.digest,
            "containerimage.config.digest": outcome.image_id,
            "image.name": ",".join(outcome.names),
        }
        _write(values["metadata_file"], json.dumps(data, indent=2))


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise BuildError(f"{path} can't be written: {error.strerror}") from None
