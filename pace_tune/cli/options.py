"""Options that several commands take, spelled once."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
GIVEN = "pace_tune.settings"
"""Where a command's context keeps `--set` as it was typed."""


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def settings_option(command: Command) -> Command:
    """Add ``--set path=value``, given to the command as a mapping of path to value."""
    return click.option(
        "--set", "settings", multiple=True, metavar="PATH=VALUE", callback=_parsed, help="Set one value, e.g. optim.lr=1e-3. Repeatable."
    )(command)


def output_option(command: Command) -> Command:
    """Add ``--output``, the folder of sweeps."""
    return click.option(
        "--output", type=click.Path(file_okay=False, path_type=Path), default=None, help="Folder of sweeps.  [default: pace-runs]"
    )(command)


def address_option(command: Command) -> Command:
    """Add ``--address``, the cluster."""
    return click.option(
        "--address", envvar="RAY_API_SERVER_ADDRESS", show_envvar=True, help="Of the cluster's dashboard, e.g. http://127.0.0.1:8265."
    )(command)


def output_folder(output: Path | None) -> Path:
    """Return the folder of sweeps that an option names, or the default."""
    return (output or Path("pace-runs")).expanduser().absolute()


def same_study(study: Path, output: Path | None) -> str:
    """Return the arguments by which another command works on the study of this one, as a shell takes them."""
    given = click.get_current_context().meta.get(GIVEN, ())
    words = [str(study), *(word for setting in given for word in ("--set", setting)), *(("--output", str(output)) if output else ())]
    return shlex.join(words)


def _parsed(context: click.Context, option: click.Parameter, settings: tuple[str, ...]) -> dict[str, Any]:  # noqa: ARG001  (click's signature)
    from pace_tune.study.paths import parse_settings

    context.meta[GIVEN] = settings
    return parse_settings(settings)
