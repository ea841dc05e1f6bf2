"""The command line: a file per command, loaded when it is called, and errors in one place.

A command returns its exit status, nothing for 0: 0 done, 1 it ran and did not end well, 2 the user's mistake, 130 interrupted.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from pace_tune import __version__
from pace_tune.errors import PaceTuneError, PaceTuneWarning

COMMANDS = Path(__file__).parent / "commands"
FIRST = ("sweep", "best", "confirm", "train", "ui")
"""Listed in the order of use; the others follow by name."""
CLUSTER = ("submit", "list", "status", "logs", "stop", "resume", "extend")
"""Listed apart: they work on sweeps of a cluster, and know nothing of this machine's."""
HELP = """Find the fine-tuning recipe that generalises best.

    \b
    pace-tune sweep search_spaces/digits.yaml     search; the same command goes on after an interruption
    pace-tune best digits                         the winner
    pace-tune confirm digits --seeds 3            retrain it, score it on the test split
    pace-tune ui                                  look at every run
"""


class LazyGroup(click.Group):
    """Commands by the names of their files. Help reads the files' text, so that it loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name."""
        names = sorted(path.stem for path in COMMANDS.glob("*.py") if path.stem != "__init__")
        return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command, or return nothing where there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"pace_tune.cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists of commands with the first line of each file."""
        here = [name for name in self.list_commands(ctx) if name not in CLUSTER]
        for title, names in (("Commands", here), ("Sweeps on a cluster", CLUSTER)):
            with formatter.section(title):
                formatter.write_dl([(name, summary(COMMANDS / f"{name}.py")) for name in names])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one gets its near names."""
        from pace_tune.errors import UnknownNameError

        if args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            raise UnknownNameError("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def summary(path: Path) -> str:
    """Return the first line of a file's docstring without running the file."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]


@click.command(cls=LazyGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pace-tune")
def group() -> None:
    """Hold the commands; each does its own work."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PaceTuneWarning)
        warnings.showwarning = partial(_show_warning, otherwise=warnings.showwarning)
        return _run(arguments)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, otherwise: Callable[..., None], **more: Any) -> None:
    if issubclass(category, PaceTuneWarning):
        _say(str(message), colour="yellow")
    else:
        otherwise(message, category, *where, **more)


def _say(text: str, *, colour: str) -> None:
    from pace_tune.cli.output import message

    click.secho(message(text), fg=colour, err=True)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = group.main(arguments, prog_name="pace-tune", standalone_mode=False)
    except click.ClickException as error:
        help_for = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "pace-tune"
        # click lists choices a line each, and ends them with nothing.
        said = " ".join(error.format_message().split())
        _say(f"{said}{'' if said.endswith(('.', '?')) else '.'} See `{help_for} --help`.", colour="red")
        return error.exit_code
    except PaceTuneError as error:
        _say(str(error), colour="red")
        # User mistakes are value and look-up errors; the others are what the machine could not do.
        return 2 if isinstance(error, ValueError | LookupError) else 1
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`); what Python flushes at its end must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status if isinstance(status, int) else 0


def main() -> NoReturn:
    """Be the console script. What is ended by SIGTERM ends as by Ctrl-C: with its processes, and a line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run())
