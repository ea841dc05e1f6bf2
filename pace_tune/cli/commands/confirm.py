"""Retrain a winner over several seeds and score it on the test split, PACE beside plain."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import begin, console, message, print_json
from pace_tune.errors import PaceTuneWarning

if TYPE_CHECKING:
    from pace_tune.results.best import BestRun
    from pace_tune.results.confirm import Confirmation


@click.command()
@click.argument("study_or_task")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many times.")
@click.option("--against", multiple=True, help="Objective to compare with. Repeatable.  [default: plain, noise]")
@click.option("--processes", type=click.IntRange(min=1), help="Processes that share the runs; one per core without a GPU.")
@output_option
@json_option
def command(study_or_task: str, seeds: int, against: tuple[str, ...], processes: int | None, output: Path | None, as_json: bool) -> int:
    """Retrain the winner of STUDY_OR_TASK on train+val, and score the test split once per seed.

    The same recipe without PACE, and with its noise alone, is trained beside it with the same seeds. Interrupted, the same command
    goes on where it stopped.
    """
    from pace_tune.results.best import find_best
    from pace_tune.results.confirm import AGAINST, recipes_of
    from pace_tune.results.confirm_table import confirmation_view
    from pace_tune.results.majority import score_floor
    from pace_tune.study.missing import refuse_missing

    folder, objectives = output_folder(output), against or AGAINST
    found = find_best(folder, study_or_task)
    refuse_missing(recipe for best in found for recipe in recipes_of(best, objectives).values())
    try:
        confirmations = [_retrain(best, folder / best.sweep, seeds, objectives, processes, quiet=as_json) for best in found]
    except KeyboardInterrupt:
        click.echo(message("Interrupted; runs are kept as far as they are, and the same command goes on."), err=True)
        return 130
    if as_json:
        print_json([confirmation.as_mapping() for confirmation in confirmations])
    else:
        for confirmation in confirmations:
            console().print(confirmation_view(confirmation, floor=score_floor(folder / confirmation.sweep)))
            console().print(next_steps(confirmation.sweep, folder), markup=False, soft_wrap=True)
    return 0


def _retrain(best: BestRun, folder: Path, seeds: int, objectives: Sequence[str], processes: int | None, *, quiet: bool) -> Confirmation:
    """Train a winner and what it is compared with, and keep what came out in the sweep's folder."""
    from pace_tune.cli.dashboard import track
    from pace_tune.cli.progress import EpochProgress
    from pace_tune.results.confirm import confirm, recipes_of, run_name
    from pace_tune.results.confirm_file import CONFIRMED_RUNS, confirmation_text, write_confirmation
    from pace_tune.results.confirm_table import announcement
    from pace_tune.results.local_runs import local_processes

    recipes = recipes_of(best, objectives)
    for remark in _remarks(folder):
        warnings.warn(f"{remark}.", PaceTuneWarning, stacklevel=1)
    if not quiet:
        console(stderr=True).print(announcement(best.sweep, recipes, seeds=seeds), markup=False, soft_wrap=True)
        begin("loading backbone and data")
    epochs = seeds * sum(recipe.optim.epochs for recipe in recipes.values())
    with EpochProgress(epochs=epochs, quiet=quiet) as progress:
        confirmation = confirm(
            best,
            storage=folder / CONFIRMED_RUNS,
            seeds=seeds,
            objectives=objectives,
            processes=processes or local_processes(),
            on_report=lambda report: progress.show(report, label=run_name(report["lane"])),
        )
    kept = write_confirmation(folder, confirmation)
    track(folder, files=[kept], tags={"pace.confirmed": confirmation_text(confirmation)})
    return confirmation


def _remarks(sweep: Path) -> Iterator[str]:
    """Yield what one should know of a sweep before its winner is retrained."""
    from pace_tune.cli.sweeps_here import unfinished
    from pace_tune.study.data_mark import changed_data
    from pace_tune.study.study_config import Study
    from pace_tune.study.sweep_folder import STUDY_FILE

    yield from filter(None, (unfinished(sweep), changed_data(Study.load(sweep / STUDY_FILE), sweep)))


def next_steps(sweep: str, folder: Path) -> str:
    """Return what one may do with a confirmed sweep."""
    where = f" --output {folder}" if folder != Path("pace-runs").absolute() else ""
    return f"report    pace-tune report {sweep}{where}\nexport    pace-tune export {sweep} --confirmed -o MODEL{where}"
