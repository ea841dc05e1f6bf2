"""Print the best recipe of a study or a task, as a run file; of every task, as a table."""

from __future__ import annotations

from pathlib import Path

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import print_json, print_table


@click.command()
@click.argument("study_or_task", required=False)
@output_option
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the run file there.")
@json_option
def command(study_or_task: str | None, output: Path | None, out: Path | None, as_json: bool) -> None:
    """Print the winner of STUDY_OR_TASK as a run file that `pace-tune train` takes; without it, a table of all tasks.

    The selection metric decides, never a test score.
    """
    from pace_tune.results.best import find_best, run_yaml, write_run_yaml

    winners = find_best(output_folder(output), study_or_task)
    if out is not None and len(winners) != 1:
        raise click.UsageError("--out takes one winner: name a study or a task.")
    if as_json:
        print_json([best.as_row() for best in winners])
    elif study_or_task and out is None:
        click.echo("\n".join(run_yaml(best) for best in winners), nl=False)
    elif out is None:
        rows = [{**best.as_row(), "trial": best.lane, "objective": best.config["objective"]["name"]} for best in winners]
        rows = [{**row, "method": best.config["method"]["name"]} for row, best in zip(rows, winners, strict=True)]
        print_table(rows, columns=("task", "sweep", "trial", "method", "objective", "metric", "value", "val_loss"))
    if out is not None:
        click.echo(f"wrote {write_run_yaml(winners[0], out)}", err=True)
