"""Print the best recipe of a study or a task, as a run file; of several, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import message, print_json, print_table

if TYPE_CHECKING:
    from pace_tune.results.best import BestRun
    from pace_tune.results.neighbours import Neighbour

SPARE = ("val_loss", "objective", "method", "metric")
SPARE_NEARBY = ("basis", "sweep", "behind", "verdict")
"""What a narrow terminal does without, in the table of winners and in that of recipes next to one."""


@click.command()
@click.argument("studies_or_tasks", nargs=-1)
@output_option
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the run file there.")
@click.option(
    "--neighbours", type=click.IntRange(min=1), help="Show so many recipes next to each winner, and whether they can be told apart."
)
@click.option("--full", is_flag=True, help="Print the run with every value, as --out writes it, not only what was searched or set.")
@json_option
def command(
    studies_or_tasks: tuple[str, ...], *, output: Path | None, out: Path | None, neighbours: int | None, full: bool, as_json: bool
) -> None:
    """Print the winner of STUDIES_OR_TASKS as a run file that `pace-tune train` takes; of several or all tasks, a table.

    First what was searched, then the run without what stands at its default; --full and --out give all of it.
    The selection metric decides, never a test score. What always saying the commonest class scores on val is said on stderr.
    """
    from pace_tune.results.best import best_of_group, comparable, run_yaml, short_yaml, write_run_yaml

    groups = comparable(output_folder(output), *studies_or_tasks)
    winners = [best_of_group(group) for group in groups]
    if out is not None and len(winners) != 1:
        raise click.UsageError("--out takes one winner: name a study or a task.")
    nearby = [_nearby(group, count=neighbours) for group in groups]
    if as_json:
        extra: list[dict[str, Any]] = [{"neighbours": [one.as_row() for one in near]} if neighbours else {} for near in nearby]
        print_json([{**best.as_row(), **more} for best, more in zip(winners, extra, strict=True)])
    elif neighbours:
        for best, near in zip(winners, nearby, strict=True):
            _print_neighbours(best, near)
    elif len(studies_or_tasks) == 1 and out is None:
        click.echo("\n".join((run_yaml if full else short_yaml)(best) for best in winners), nl=False)
    elif out is None:
        rows = [{**best.as_row(), "task": best.data, "trial": best.lane, "objective": best.config["objective"]["name"]} for best in winners]
        rows = [{**row, "method": best.config["method"]["name"]} for row, best in zip(rows, winners, strict=True)]
        print_table(rows, columns=("task", "sweep", "trial", "method", "objective", "metric", "value", "val_loss"), spare=SPARE)
    if len(studies_or_tasks) == 1 and not as_json:
        _say_floors(winners)
    if out is not None:
        click.echo(f"wrote {write_run_yaml(winners[0], out)}", err=True)


def _say_floors(winners: list[BestRun]) -> None:
    """Say what no skill would score, on stderr: what is on stdout stays a run file."""
    from pace_tune.results.majority import winner_floor_text

    for said in filter(None, map(winner_floor_text, winners)):
        click.echo(message(said), err=True)


def _nearby(group: list[Any], *, count: int | None) -> list[Neighbour]:
    from pace_tune.results.neighbours import neighbours

    return neighbours(group, count=count) if count else []


def _print_neighbours(best: BestRun, nearby: list[Neighbour]) -> None:
    title = f"{best.data}: {best.metric} {best.value:.4f}, trial {best.lane} of {best.sweep}; next to it"
    rows = [
        {"sweep": one.sweep, "trial": one.lane, "value": one.value, "behind": one.behind, "verdict": one.verdict, "basis": one.basis}
        | {"differs": ", ".join(f"{path} {_short(there)}" for path, (_, there) in one.differs.items() if there is not None)}
        for one in nearby
    ]
    print_table(rows, columns=("sweep", "trial", "value", "behind", "verdict", "basis", "differs"), title=title, spare=SPARE_NEARBY)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
