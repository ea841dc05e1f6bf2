"""The theorems against the measurements of finished runs: a verdict per claim, and the pictures it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import print_json, print_table


@click.command()
@click.argument("run_or_study")
@output_option
@click.option("--track/--no-track", default=True, help="Also put verdicts, numbers and pictures on the run in the dashboard.")
@json_option
def command(run_or_study: str, output: Path | None, *, track: bool, as_json: bool) -> None:
    """Check the theorems on RUN_OR_STUDY: a sweep, a task, or a folder of runs.

    Each verdict is "holds", "does not hold" or "cannot tell", by a rule that is stated beside it.
    """
    from pace_tune.cli.dashboard import track as put_on_run
    from pace_tune.results.best import choose_sweeps
    from pace_tune.results.verify import verify

    given = Path(run_or_study)
    sweeps = [] if given.is_dir() else choose_sweeps(output_folder(output), run_or_study)
    for folder in [given.absolute()] if given.is_dir() else [sweep.folder for sweep in sweeps]:
        found = verify(folder, progress=lambda text: click.echo(text, err=True))
        if track:
            tags = {f"pace.verdict.{row['claim']}": row["verdict"] for row in found.rows}
            put_on_run(folder, files=found.files, tags=tags, metrics=_numbers(found.rows))
        if as_json:
            print_json({"folder": str(folder), "rows": found.rows, "files": [str(file) for file in found.files]})
            continue
        print_table([_shown(row) for row in found.rows], columns=("claim", "verdict", "number", "interval", "count"), title=folder.name)
        click.echo(f"verdicts  {found.files[0]}\npictures  {found.files[0].parent / 'verify'}")


def _numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return ``verdict/<claim>``, the effect, and the ends of its interval beside it."""
    numbers: dict[str, float | None] = {}
    for row in rows:
        name = f"verdict/{row['claim']}"
        numbers |= {name: row["number"], f"{name}/low": row["interval"][0], f"{name}/high": row["interval"][1]}
    return numbers


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["interval"]
    return {**row, "interval": f"[{'-inf' if low is None else f'{low:.3g}'}, {'inf' if high is None else f'{high:.3g}'}]"}
