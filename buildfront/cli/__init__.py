"""The command line: click, one module a command. It uses the public API and nothing else of the package.

A command's module is imported when the command is called, so that ``buildfront build`` pays for no other one.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

import buildfront
from buildfront import BuildError, __version__

from .program import Program
from .show_errors import show

if TYPE_CHECKING:
    from .program import Recorder

COMMANDS = {
    "build": "build an image from a Dockerfile",
    "plan": "print the step graph and what the cache holds, run nothing",
    "check": "check a Dockerfile against rules, run nothing",
    "spec": "print the OCI runtime config of each RUN, run nothing",
    "images": "list the images of the store",
    "inspect": "print an image's manifest and config",
    "tag": "give an image another name",
    "load": "load an image archive",
    "import": "make an image from a tar of a root filesystem",
    "pull": "pull an image from a registry",
    "push": "push an image to a registry",
    "info": "what the store holds",
    "prune": "remove cache mounts that no build uses",
    "doctor": "what this machine can do",
}


_WITH_VALUE = {"--pull": "--pull=always", "--fix": "--fix=safe", "--error": "--error=all"}
"""Options that take no value of their own: with one they are ``--pull=POLICY``, as podman's and docker's --pull is."""


class Lazy(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, its module imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f".{cmd_name}_command", __name__)
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called; an unknown one is an error with the nearest name."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib  # only mistakes need it

            near = difflib.get_close_matches(args[0][:100], COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", metavar="DIR", envvar="BUILDFRONT_ROOT", help="where the store is")
@click.version_option(__version__, prog_name="buildfront")
@click.pass_obj
def cli(program: Program, root: str | None) -> None:
    """Build OCI images from Dockerfiles, with no daemon."""
    program.root = (
        root or buildfront.default_root()
    )  # before an ordinary user becomes root of a user namespace


def run(argv: list[str], record: Recorder | None = None) -> int:
    """Run the command line and return the exit status. ``record`` is as in :class:`Program`."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    words = [_WITH_VALUE.get(word, word) for word in argv]
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        result = cli.main(words, prog_name="buildfront", standalone_mode=False, obj=Program(argv, record))
        return result if isinstance(result, int) else 0
    except BuildError as error:
        return show(error)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
