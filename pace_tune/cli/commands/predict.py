"""Say what an exported model makes of images or texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pace_tune.cli.options import json_option
from pace_tune.cli.output import begin, message, print_json, print_table
from pace_tune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pace_tune.worker import Predictor


MENTIONED, MOST_SKIPPED = 3, 10
"""Inputs that are named: at the start, and of those that could not be read."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1)
@click.option("--file", "table", type=click.Path(path_type=Path), help="A table of inputs: CSV, TSV, JSON lines or Parquet.")
@click.option("--column", "columns", multiple=True, help="Column of the table; twice for pairs of texts.  [default: as in training]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="A GPU is taken if there is one.")
@json_option
def command(model: Path, inputs: tuple[str, ...], table: Path | None, columns: tuple[str, ...], device: str | None, as_json: bool) -> int:
    """Classify INPUTS, image files and folders of them, or texts, with MODEL, a folder that `pace-tune export` wrote.

    Inputs are prepared as the evaluation of the run prepared them. Files that are no images are named and left out; the exit
    status is then 1.
    """
    if bool(inputs) == bool(table):
        raise click.UsageError("give inputs, or a table by --file.")
    from pace_tune.worker import Predictor

    Predictor.check(model, inputs, table=table, columns=columns)
    begin(f"loading {model}")
    predictor = Predictor(model, device=device)
    begin(
        f"predicting {f'the rows of {table}' if table else ', '.join(inputs[:MENTIONED])}{' and more' if len(inputs) > MENTIONED else ''}"
    )
    rows = [found.as_row() for found in _predictions(predictor, inputs, table, columns)]
    skipped = [f"{row['input']}: {row['skipped']}" for row in rows if "skipped" in row]
    if skipped and len(skipped) == len(rows):
        raise DataError("\n".join(_first(skipped)))
    if as_json:
        print_json(rows)
    else:
        print_table((row for row in rows if "skipped" not in row), columns=("input", "label", "probability", "value"))
    for line in _first(skipped):
        click.secho(message(line), fg="red", err=True)
    return 1 if skipped else 0


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_SKIPPED
    return [*lines[:MOST_SKIPPED], f"and {more:,} more that cannot be read"] if more > 0 else list(lines)


def _predictions(predictor: Predictor, inputs: Sequence[str], table: Path | None, columns: Sequence[str]) -> Iterator[Any]:
    if table is not None:
        return predictor.file(table, columns=columns, skip_broken=True)
    if columns:
        raise ConfigError("columns are those of a table: give one by --file.", path="--column")
    return predictor.images(inputs, skip_broken=True) if predictor.spec.is_image else predictor.texts(inputs)
