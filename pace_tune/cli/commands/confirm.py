"""Retrain a winner over several seeds and score it on the test split, PACE beside plain."""

from __future__ import annotations

from pathlib import Path

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import begin, console, print_json


@click.command()
@click.argument("study_or_task")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many times.")
@click.option("--against", multiple=True, help="Objective to compare with. Repeatable.  [default: plain, noise]")
@click.option("--processes", type=click.IntRange(min=1), help="Processes that share the runs; one per core without a GPU.")
@output_option
@json_option
def command(study_or_task: str, seeds: int, against: tuple[str, ...], processes: int | None, output: Path | None, as_json: bool) -> None:
    """Retrain the winner of STUDY_OR_TASK on train+val, and score the test split once per seed.

    The same recipe without PACE, and with its noise alone, is trained beside it with the same seeds.
    """
    from pace_tune.cli.dashboard import track
    from pace_tune.cli.progress import EpochProgress
    from pace_tune.results.best import find_best
    from pace_tune.results.confirm import AGAINST, confirm, recipes_of, run_name
    from pace_tune.results.confirm_file import CONFIRMED_RUNS, confirmation_text, write_confirmation
    from pace_tune.results.confirm_table import announcement, confirmation_view
    from pace_tune.results.local_runs import local_processes
    from pace_tune.results.majority import score_floor
    from pace_tune.study.missing import refuse_missing

    folder = output_folder(output)
    found = [(best, recipes_of(best, against or AGAINST)) for best in find_best(folder, study_or_task)]
    refuse_missing(recipe for _, recipes in found for recipe in recipes.values())
    confirmations = []
    for best, recipes in found:
        if not as_json:
            console(stderr=True).print(announcement(best.sweep, recipes, seeds=seeds), markup=False, soft_wrap=True)
            begin("loading backbone and data")
        epochs = seeds * sum(recipe.optim.epochs for recipe in recipes.values())
        with EpochProgress(epochs=epochs, quiet=as_json) as progress:
            confirmation = confirm(
                best,
                storage=folder / best.sweep / CONFIRMED_RUNS,
                seeds=seeds,
                objectives=against or AGAINST,
                processes=processes or local_processes(),
                on_report=lambda report: progress.show(report, label=run_name(report["lane"])),
            )
        confirmations.append(confirmation)
        kept = write_confirmation(folder / best.sweep, confirmation)
        track(folder / best.sweep, files=[kept], tags={"pace.confirmed": confirmation_text(confirmation)})
    if as_json:
        print_json([confirmation.as_mapping() for confirmation in confirmations])
    else:
        for confirmation in confirmations:
            console().print(confirmation_view(confirmation, floor=score_floor(folder / confirmation.sweep)))
            console().print(next_steps(confirmation.sweep, folder), markup=False, soft_wrap=True)


def next_steps(sweep: str, folder: Path) -> str:
    """Return what one may do with a confirmed sweep."""
    where = f" --output {folder}" if folder != Path("pace-runs").absolute() else ""
    return f"report    pace-tune report {sweep}{where}\nexport    pace-tune export {sweep} --confirmed -o MODEL{where}"
