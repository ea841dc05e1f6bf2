"""List tasks, methods, objectives, backbones, samplers, studies, or your sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pace_tune import registry
from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import console, print_json, print_table
from pace_tune.cli.studies_here import shortened, studies_here, study_files, study_rows
from pace_tune.cli.sweeps_here import shown as shown_sweep
from pace_tune.cli.sweeps_here import sweep_rows
from pace_tune.errors import ConfigError
from pace_tune.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {
    "tasks": registry.tasks,
    "methods": registry.methods,
    "objectives": registry.objectives,
    "backbones": registry.backbones,
    "samplers": registry.samplers,
}
KINDS = (*REGISTRIES, "studies", "sweeps")
STUDY_COLUMNS = ("name", "task", "backbone", "method", "objective", "trials", "mistakes", "study")
STUDY_SPARE = ("backbone", "method", "trials", "objective", "task", "mistakes")
SWEEP_COLUMNS = ("name", "task", "state", "trials", "metric", "best", "trial", "mistake", "path")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With `studies`: look there and below.  [default: this folder, and search_spaces and below]",
)
@output_option
@click.option("--backbone", help="With `methods`: count each one's parameters on this backbone (loads torch).")
@json_option
def command(kind: str, folder: Path | None, output: Path | None, backbone: str | None, as_json: bool) -> None:
    """Show everything of one KIND that a study can name, the studies here, or the sweeps of this machine and how far they are."""
    if backbone is not None:
        _show_methods(kind, backbone, as_json=as_json)
    elif kind == "studies":
        _show_studies(study_rows(study_files(folder) if folder else studies_here()), as_json=as_json)
    elif kind == "sweeps":
        rows = sweep_rows(output_folder(output))
        _show(rows, [shown_sweep(row) for row in rows], columns=SWEEP_COLUMNS, spare=("trial", "metric", "task"), as_json=as_json)
    else:
        rows = component_rows(REGISTRIES[kind])
        _show(rows, rows, columns=("name", "summary"), as_json=as_json)


def _show(
    rows: list[dict[str, Any]], shown: list[dict[str, Any]], *, columns: Sequence[str], spare: Sequence[str] = (), as_json: bool
) -> None:
    if as_json:
        print_json(rows)
    else:
        print_table(shown, columns=columns, spare=spare)


def _show_studies(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    _show(rows, [shortened(row) for row in rows], columns=STUDY_COLUMNS, spare=STUDY_SPARE, as_json=as_json)
    if not as_json:
        for row in rows:
            for mistake in row.get("mistakes", ()):
                click.echo(f"{row['study']}: {mistake}", err=True)


def _show_methods(kind: str, backbone: str, *, as_json: bool) -> None:
    from pace_tune.worker import describe_methods

    if kind != "methods":
        raise ConfigError(f"it goes with `ls methods`, not with `ls {kind}`.", path="--backbone")
    with console(stderr=True).status("methods") as status:
        rows = describe_methods(backbone, progress=status.update)
    if as_json:
        print_json(rows)
        return
    marks = {True: "yes", False: "no", None: ""}
    shown = [{**row, **{key: marks[row[key]] for key in ("merges", "identity_at_start", "lanes")}} for row in rows]
    print_table(shown, columns=("name", "parameters", "with_head", "merges", "identity_at_start", "lanes", "paper", "refused"))


def component_rows(components: Registry[Any]) -> list[dict[str, Any]]:
    """Return the name and the summary of every component of a kind; loads none of them."""
    return [{"name": name, "summary": components.line(name)} for name in components.names()]
