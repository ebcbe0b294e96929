"""``buildfront build``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ..errors import BuildError
from .options import GroupedCommand, _option, run_defaults, shared, to_options

if TYPE_CHECKING:
    from ..build import BuildOutcome, Prepared


@click.command("build", cls=GroupedCommand)
@shared
@_option(
    "Output", "-o", "--output", "outputs", multiple=True, metavar="SPEC", help="type=oci,dest=FILE and so on"
)
@_option("Output", "--push", is_flag=True, help="push to the registry of the tag")
@_option("Output", "--load", is_flag=True, help="keep the image in the store (it always is)")
@_option("Output", "--iidfile", default="", metavar="FILE", help="write the image ID there")
@_option(
    "Output", "--metadata-file", default="", metavar="FILE", help="write a JSON object about the image there"
)
@_option("Output", "-q", "--quiet", is_flag=True, help="print the image ID alone")
@_option(
    "Output",
    "--compression",
    default="gzip",
    metavar="[gzip|zstd|uncompressed]",
    help="compression of new layers",
)
@_option("Output", "--compression-level", type=int, default=None, help="how hard to compress")
@_option(
    "Run", "--jobs", type=click.IntRange(min=0), default=0, metavar="N", help="steps side by side; 0 chooses"
)
@_option(
    "Run",
    "--progress",
    default="auto",
    metavar="[auto|tty|plain|rawjson|quiet]",
    help="how progress is shown",
)
@_option("Run", "--run-step", default="local", metavar="NAME", help="the RUN executor, by its entry point")
@_option("RUN step", "--stdin", is_flag=True, help="let steps read our standard input, one after the other")
@_option(
    "Run",
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="stop a step that takes longer",
)
@click.pass_obj
def build_command(root: str | None, /, **values: Any) -> None:
    """Build an image from CONTEXT: a directory, a tar file, or - for a tar on stdin."""
    from ..build import build
    from ..export.output import parse
    from ..options import Output
    from ..progress import create
    from .user_namespace import become_root

    if values["compression"] not in ("gzip", "zstd", "uncompressed"):
        raise BuildError(
            f"unknown compression {values['compression']!r}",
            hint="known are gzip, zstd, uncompressed",
            status=2,
        )
    outputs = tuple(parse(text) for text in values["outputs"])
    if values["push"]:
        outputs += (Output("registry", push=True),)
    if (
        any(output.push for output in outputs)
        and not values["tags"]
        and not any(output.name for output in outputs)
    ):
        raise BuildError("pushing needs a name", hint="give one with -t", status=2)
    options = to_options(
        values,
        root,
        outputs=outputs,
        compression=values["compression"],
        compression_level=values["compression_level"],
        jobs=values["jobs"],
        run_defaults=run_defaults(values),
        run_step=values["run_step"],
        timeout=values["timeout"],
        stdin=_input(values) if values["stdin"] else None,
    )
    become_root(root)
    progress = create("quiet" if values["quiet"] else values["progress"])

    def note(prepared: Prepared, outcome: BuildOutcome) -> None:
        """A build that was wholly cached may be answered faster the next time."""
        from ..progress.plain import Plain

        if not all(result.cached for result in prepared.engine.state.results.values()):
            return
        if isinstance(progress, Plain) or values["quiet"]:
            from ..replay_cache import record

            err = "".join(progress.written) if isinstance(progress, Plain) else ""
            err += "".join(f"named {name}\n" for name in outcome.names) if err else ""
            record(sys.argv[1:], prepared, outcome, err)

    try:
        outcome = build(options, progress, note)
    finally:
        progress.close()
    if values["iidfile"]:
        _write(values["iidfile"], outcome.image_id)
    if values["metadata_file"]:
        data = {
            "containerimage.digest": outcome.digest,
            "containerimage.config.digest": outcome.image_id,
            "image.name": ",".join(outcome.names),
        }
        _write(values["metadata_file"], json.dumps(data, indent=2))
    to_stdout = any(output.dest == "-" for output in outputs)
    click.echo(outcome.image_id, file=sys.stderr if to_stdout else sys.stdout)
    if not values["quiet"] and values["progress"] not in ("rawjson", "quiet"):
        for name in outcome.names:
            click.echo(f"named {name}", err=True)


def _input(values: dict[str, Any]) -> int:
    """The descriptor that steps may read. Raises BuildError where something else is read from it."""
    if values["context"] == "-" or values["dockerfile"] == "-":
        raise BuildError(
            "--stdin: standard input is the context or the Dockerfile already", hint="name a file", status=2
        )
    return 0


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise BuildError(f"{path} can't be written: {error.strerror}") from None
