"""Open the MLflow dashboard on the runs of the sweeps."""

from __future__ import annotations

from pathlib import Path

import click

from pace_tune.cli.options import output_folder, output_option
from pace_tune.cli.output import begin
from pace_tune.errors import DataError


@click.command()
@output_option
@click.option("--uri", help="Of a tracking store elsewhere.  [default: mlflow.db in the folder of sweeps]")
@click.option("--port", type=click.IntRange(1, 65535), help="To listen on, on this machine only.  [default: the first free one from 5000]")
@click.option("--browser/--no-browser", default=True, help="Open a browser.")
def command(output: Path | None, uri: str | None, port: int | None, browser: bool) -> None:
    """Serve the dashboard until Ctrl-C."""
    from pace_tune.tracking.ui import serve

    folder = output_folder(output)
    store = folder / "mlflow.db"
    if uri is None and not store.is_file():
        raise DataError(f"{folder}: no tracking store in this folder; run a sweep first, or name another with --output.")
    begin("starting the dashboard")
    serve(uri or f"sqlite:///{store}", port=port, artifacts=folder / "mlartifacts" if uri is None else None, browser=browser)
