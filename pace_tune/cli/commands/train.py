"""Train one run: a recipe with every choice fixed, no search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pace_tune.cli.options import json_option, settings_option
from pace_tune.cli.output import begin, print_json, print_table
from pace_tune.cli.run_folder import RunFolder
from pace_tune.study.run_config import RunConfig
from pace_tune.study.sweep_folder import STUDY_FILE


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@settings_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the result.  [default: pace-runs/train/<RUN's name>, after the sweep's name where RUN is one's best.yaml]",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; torch's choice unless given.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="A GPU is taken if there is one.")
@json_option
def command(run: Path, settings: dict[str, Any], out: Path | None, as_json: bool, **options: Any) -> int:
    """Train RUN, a run file such as `pace-tune best` writes.

    RUN.yaml, metrics.json and the checkpoint land in the folder of the result. Interrupted, the same command goes on where
    it stopped. The exit status is 1 where the run diverges or runs out of memory.
    """
    config = RunConfig.load(run, settings=settings)
    folder = RunFolder.claim(out or Path("pace-runs", "train", _name(run)), config)
    try:
        last = train(config, folder=folder, quiet=as_json, **options)
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command goes on.", err=True)
        return 130
    folder.write_metrics(last)
    if as_json:
        print_json({**last, "folder": str(folder.path)})
    else:
        print_table(({"metric": key, "value": value} for key, value in sorted(last["metrics"].items())), columns=("metric", "value"))
        ended = f": {last['reason']}" if last.get("reason") else ""
        click.echo(f"\n{last['state']} after epoch {last['epoch']} of {last['epochs']}{ended}; results in {folder.path}")
    return 0 if last["state"] == "finished" else 1


def _name(run: Path) -> str:
    """Return what a run is called by its file: every sweep has a best.yaml."""
    folder = run.absolute().parent
    return f"{folder.name}-{run.stem}" if (folder / STUDY_FILE).is_file() else run.stem


def train(
    config: RunConfig, *, folder: RunFolder, quiet: bool = False, threads: int | None = None, device: str | None = None
) -> dict[str, Any]:
    """Train one run in this process, from its checkpoint if there is one, and return its last report."""
    from pace_tune.cli.progress import EpochProgress
    from pace_tune.worker import Worker

    if not quiet:
        begin("loading backbone and data")
    mapping = config.as_mapping()
    setup = {part: mapping[part] for part in ("task", "backbone", "data")}
    worker = Worker(setup, storage=str(folder.lanes), threads=threads, device=device)
    reports = worker.open(folder.LANE, mapping)
    if reports and not quiet:
        begin(f"going on after epoch {reports[-1]['epoch']} of {reports[-1]['epochs']}")
    with EpochProgress(epochs=config.optim.epochs, quiet=quiet) as progress:
        for report in reports[-1:]:
            progress.show(report)
        while not reports or reports[-1]["state"] == "running":
            reports = worker.advance()
            progress.show(reports[-1])
    return dict(reports[-1])
