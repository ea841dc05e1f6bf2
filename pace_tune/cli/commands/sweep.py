"""Run a study: search for the best recipe. The same command goes on after an interruption."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from pace_tune.cli.options import output_option, settings_option
from pace_tune.cli.output import begin, console, message
from pace_tune.errors import PaceTuneWarning
from pace_tune.study.missing import refuse_missing, refuse_wrong_data
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url, has_database
from pace_tune.study.sweep_folder import check_folder, publish_results
from pace_tune.wording import counted

if TYPE_CHECKING:
    from pace_tune.results.summary import Summary


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@output_option
@settings_option
@click.option("--quiet", is_flag=True, help="Show the result only.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON per event, and the result as the last line.")
def command(study: Path, output: Path | None, settings: dict[str, Any], quiet: bool, as_json: bool) -> int:
    """Run STUDY, a file, on this machine, and show what came out.

    Ctrl-C stops it cleanly. The same command goes on where it stopped; with a larger `search.trials` it adds trials.
    """
    settings |= {"output": str(output)} if output else {}
    if (place := Study.place(study, settings=settings)) and has_database(place):
        from pace_tune.search.lease import refuse_driven

        refuse_driven(database_url(place), sweep=place.name)
    loaded = Study.load(study, settings=settings)
    check_folder(loaded)
    # On a cluster it may be where the workers are, and nowhere else.
    if not os.environ.get("RAY_ADDRESS"):
        refuse_missing([loaded.run({})])
        refuse_wrong_data(loaded.run({}))
        if not has_database(loaded.folder):
            for remark in loaded.run({}).task.early_remarks(root=loaded.run({}).data.root):
                warnings.warn(f"{remark}.", PaceTuneWarning, stacklevel=1)
    from pace_tune.search.sweep import run_sweep

    try:
        result = run_sweep(loaded, quiet=quiet, json_lines=as_json)
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command goes on.", err=True)
        return 130
    if result.state == "interrupted":
        click.echo(message(f"Interrupted{_kept(result.counts)}; the same command goes on."), err=True)
        return 130
    if not quiet:
        if result.was_complete:
            console(stderr=True).print(f"{loaded.name} was complete: nothing was trained", style="dim", markup=False, soft_wrap=True)
        begin("writing the report")
    show_result(loaded, as_json=as_json)
    return 0 if result.best else 1


def _kept(counts: Mapping[str, int]) -> str:
    """Return what an interrupted sweep has come to, by how its trials ended.

    Example:
        >>> _kept({"pruned": 2, "open": 4})
        ' with 2 trials pruned, 4 begun and kept'
    """
    words = [f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items() if outcome != "open"]
    words += [f"{counts['open']} begun and kept"] if counts.get("open") else []
    first, _, rest = ", ".join(words).partition(" ")
    return f" with {counted(int(first), 'trial')} {rest}" if words else ""


def show_result(study: Study, *, as_json: bool) -> None:
    """Write the sweep's leaderboard, picture, report and best recipe into its folder, and show them."""
    from pace_tune.cli.dashboard import track
    from pace_tune.results.best import SEARCHED, short_yaml
    from pace_tune.results.leaderboard import leaderboard_table
    from pace_tune.results.majority import winner_floor_text
    from pace_tune.results.report.write import write_report
    from pace_tune.results.summary import write_summary

    summary = write_summary(study.folder)
    with console(stderr=True).status("report") as status:
        report = write_report([summary.sweep], study.folder / "report.html", progress=status.update).path
    publish_results(study, [file for file in (report, *_files(summary)) if file])
    track(study.folder, files=[file for file in (report, summary.picture_file) if file])
    if as_json:
        best = summary.best.as_row() if summary.best else None
        files = {"folder": str(study.folder), "picture": _text(summary.picture_file), "report": str(report)}
        click.echo(json.dumps({"event": "result", "best": best, **files}))
        return
    out = console()
    out.print(leaderboard_table(summary.sweep, limit=10, width=out.width))
    if summary.best:
        if floor := winner_floor_text(summary.best):
            out.print(floor, markup=False, soft_wrap=True)
        out.print("\nBest recipe", style="bold")
        recipe = Text(short_yaml(summary.best))
        recipe.highlight_regex(rf"(?m)^{SEARCHED}.+$", "bold green")
        out.print(recipe, soft_wrap=True)
    where = f" --output {study.output}" if study.output != Path("pace-runs").absolute() else ""
    lines = {
        "recipe": _text(summary.run_file),
        "picture": _text(summary.picture_file),
        "report": str(report),
        "confirm": f"pace-tune confirm {study.name} --seeds 3{where}",
        "dashboard": f"pace-tune ui{where}",
    }
    for label, text in lines.items():
        if text:
            out.print(f"{label:<10}{text}", markup=False, soft_wrap=True)


def _files(summary: Summary) -> tuple[Path | None, ...]:
    return (summary.leaderboard_file, summary.picture_file, summary.run_file)


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
