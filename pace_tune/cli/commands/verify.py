"""The theorems against the measurements of finished runs: a verdict per claim, and the pictures it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import print_json, print_table
from pace_tune.errors import DataError, PaceTuneError
from pace_tune.study.sweep_folder import STUDY_FILE


@click.command()
@click.argument("run_or_study")
@output_option
@click.option("--track/--no-track", default=True, help="Also put verdicts, numbers and pictures on the run in the dashboard.")
@click.option("--models", type=click.IntRange(min=0), help="Trained models to open at most; 0 reads the curves alone.  [default: 20]")
@json_option
def command(run_or_study: str, output: Path | None, *, track: bool, models: int | None, as_json: bool) -> None:
    """Check the theorems on RUN_OR_STUDY: a sweep, a task, or a folder of runs.

    Each verdict is "holds", "does not hold" or "cannot tell", by a rule that is stated under them; --json has the
    claims' names too, which are their tags in the dashboard. Opening and measuring a model takes seconds to minutes on a CPU.
    """
    from pace_tune.cli.dashboard import track as put_on_run
    from pace_tune.results.verify import verify

    for folder in _folders(Path(run_or_study), name=run_or_study, output=output_folder(output)):
        found = verify(folder, models=models, progress=lambda text: click.echo(text, err=True))
        if track:
            tags = {f"pace.verdict.{row['claim']}": row["verdict"] for row in found.rows}
            put_on_run(folder, files=found.files, tags=tags, metrics=_numbers(found.rows))
        if as_json:
            print_json({"folder": str(folder), "rows": found.rows, "files": [str(file) for file in found.files]})
            continue
        rules = {rule: f"R{number}" for number, rule in enumerate(dict.fromkeys(row["rule"] for row in found.rows), start=1)}
        columns = ("says", "verdict", "number", "interval", "count", "rule")
        print_table(
            [_shown(row) | {"rule": rules[row["rule"]]} for row in found.rows], columns=columns, title=folder.name, spare=("count",)
        )
        click.echo("\n".join(f"{name}  {rule}" for rule, name in rules.items()))
        click.echo(f"verdicts  {found.files[0]}\npictures  {found.files[0].parent / 'verify'}")


def _folders(given: Path, *, name: str, output: Path) -> list[Path]:
    """Return a folder of runs that is named, else the folders of the sweeps that a name stands for."""
    from pace_tune.results.best import choose_sweeps

    # A folder without a run, such as the user's data, does not hide a sweep of its name; where there is none, both are said.
    if given.is_dir() and (any(given.rglob("history.jsonl")) or (given / STUDY_FILE).is_file()):
        return [given.absolute()]
    try:
        return [sweep.folder for sweep in choose_sweeps(output, name)]
    except PaceTuneError as error:
        if not given.is_dir():
            raise
        raise DataError(f"{given.absolute()}: no run in this folder, and no sweep or task of that name in {output}: {error}") from error


def _numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return ``verdict/<claim>``, the effect, and the ends of its interval beside it."""
    numbers: dict[str, float | None] = {}
    for row in rows:
        name = f"verdict/{row['claim']}"
        numbers |= {name: row["number"], f"{name}/low": row["interval"][0], f"{name}/high": row["interval"][1]}
    return numbers


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for people; of an interval that too few runs leave open at both ends nothing is known."""
    from pace_tune.results.verify import verdict_text

    low, high = row["interval"]
    ends = "-inf" if low is None else f"{low:.3g}", "inf" if high is None else f"{high:.3g}"
    return {**row, "verdict": verdict_text(row), "interval": "" if low is None and high is None else f"[{', '.join(ends)}]"}
