"""The command line: click, one module a command. Nothing here decides what a build does.

A command's module is imported when the command is called, so that ``buildfront build`` pays for no other one.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from .. import __version__
from ..errors import BuildError, nearest

COMMANDS = {
    "build": ("build_command", "build an image from a Dockerfile"),
    "plan": ("plan_command", "print the step graph and what the cache holds, run nothing"),
    "spec": ("spec_command", "print the OCI runtime config of each RUN, run nothing"),
    "images": ("image_commands", "list the images of the store"),
    "inspect": ("image_commands", "print an image's manifest and config"),
    "tag": ("image_commands", "give an image another name"),
    "load": ("transfer_commands", "load an image archive"),
    "import": ("transfer_commands", "make an image from a tar of a root filesystem"),
    "pull": ("transfer_commands", "pull an image from a registry"),
    "push": ("transfer_commands", "push an image to a registry"),
    "info": ("prune_commands", "what the store holds"),
    "prune": ("prune_commands", "remove cache mounts that no build uses"),
    "doctor": ("doctor_command", "what this machine can do"),
}


class Lazy(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f".{COMMANDS[cmd_name][0]}", __name__)
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            hint = nearest(args[0], tuple(COMMANDS)) or f"known are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", metavar="DIR", envvar="BUILDFRONT_ROOT", help="where the store is")
@click.version_option(__version__, prog_name="buildfront")
@click.pass_context
def cli(ctx: click.Context, root: str | None) -> None:
    """Build OCI images from Dockerfiles, with no daemon."""
    from ..store.location import default_root

    ctx.obj = root or default_root()  # before an ordinary user becomes root of a user namespace


def run(argv: list[str]) -> int:
    """Run the command line; returns the exit status."""
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # podman's and docker's --pull takes no value of its own: with one it is --pull=POLICY.
    argv = ["--pull=always" if word == "--pull" else word for word in argv]
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        result = cli.main(argv, prog_name="buildfront", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except BuildError as error:
        from .show_errors import show

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
