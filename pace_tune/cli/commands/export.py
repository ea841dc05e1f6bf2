"""Write a run's model to a folder that timm, transformers or peft load."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import begin, print_json
from pace_tune.errors import ConfigError, PaceTuneWarning
from pace_tune.storage import SCHEME, open_storage, publish

if TYPE_CHECKING:
    from pace_tune.results.export import Export


@click.command()
@click.argument("run")
@click.option("-o", "--out", required=True, help="Folder of the model, or s3://bucket/prefix.")
@click.option("--peft", is_flag=True, help="Write a peft adapter instead of a merged checkpoint, where the method is one of peft's.")
@click.option("--confirmed", is_flag=True, help="The winner as `confirm` retrained it, on train and val, with its first seed.")
@click.option("--overwrite", is_flag=True, help="Replace the model that is there.")
@click.option("--register", is_flag=True, help="Register it in the sweeps' MLflow store, as the best model of its task.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="A GPU is taken if there is one.")
@output_option
@json_option
def command(
    run: str,
    out: str,
    *,
    peft: bool,
    confirmed: bool,
    overwrite: bool,
    register: bool,
    device: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Export RUN: the winner of a sweep or task, a lane's folder, the folder of `pace-tune train`, or an MLflow run's id.

    The folder appears only after the exported model was loaded again and gave the run's outputs. It holds the weights,
    label names, preprocessing and a README.md with data, recipe, scores and measures.
    """
    from pace_tune.results.export import confirmed_source, export_run, find_source
    from pace_tune.study.data_mark import changed_data
    from pace_tune.study.study_config import Study
    from pace_tune.study.sweep_folder import STUDY_FILE

    sweeps = output_folder(output)
    name = _named(run, sweeps)
    if register and confirmed:
        raise ConfigError("what `confirm` trained has no run in the tracking store to register it under.", path="--register")
    source = find_source(name, output=sweeps)
    if source.sweep is None and register:
        raise ConfigError("only a trial of a sweep has a run in the tracking store to register it under.", path="--register")
    if _holds_model(out) and not overwrite:
        raise ConfigError(f"{out!r} holds a model already; choose another folder, or replace it by --overwrite.", path="--out")
    form: Literal["peft", "merged"] = "peft" if peft else "merged"
    if confirmed:
        confirmed_source(source)  # refuses what was not, before anything is loaded
    if source.sweep and (changed := changed_data(Study.load(source.sweep / STUDY_FILE), source.sweep)):
        warnings.warn(f"{changed}: the score below is on other data than its own.", PaceTuneWarning, stacklevel=1)
    begin(f"exporting {name}: written, loaded again and scored on val")
    with _folder(out) as folder:
        export = export_run(name, output=sweeps, folder=folder, form=form, confirmed=confirmed, device=device)
        row = export.as_row() | ({"registered": _register(export)} if register else {})
    row["folder"] = out if out.startswith(SCHEME) else str(folder)
    if as_json:
        print_json(row)
        return
    scores = "  ".join(f"val/{key} {value:.4f}" for key, value in export.scores.items())
    scores += " (trained on val too: no score on new data)" if export.saw_val else ""
    apart = f"differ by at most {export.largest_difference:.1g}" if export.largest_difference else "are the same"
    click.echo(f"{export.form} model in {out}: loaded again, {scores}; its outputs and the run's {apart}")
    if register:
        click.echo(f"registered as {row['registered']}")
    if not out.startswith(SCHEME):
        click.echo(f"predict   pace-tune predict {shlex.quote(out)} INPUT...")


def _holds_model(out: str) -> bool:
    from pace_tune.results.export import FACTS

    return open_storage(out).read(FACTS) is not None if out.startswith(SCHEME) else (Path(out) / FACTS).is_file()


@contextmanager
def _folder(out: str) -> Iterator[Path]:
    """Yield the folder to export into; what is meant for a store goes there when it is whole."""
    if not out.startswith(SCHEME):
        yield Path(out).absolute()
        return
    storage = open_storage(out)
    with TemporaryDirectory(prefix="pace-") as temporary:
        folder = Path(temporary) / storage.location.rpartition("/")[2]
        yield folder
        publish(folder, storage)


def _named(run: str, output: Path) -> str:
    """Return what `export_run` takes; an MLflow run's id is the folder of its lane."""
    store = output / "mlflow.db"
    if len(run) != 32 or set(run) - set("0123456789abcdef") or not store.is_file():
        return run
    from pace_tune.tracking.pyfunc import trial_of

    sweep, lane = trial_of(f"sqlite:///{store}", run)
    return str(output / sweep / "lanes" / lane)


def _register(export: Export) -> str:
    from pace_tune.study.study_config import Study
    from pace_tune.tracking.pyfunc import register
    from pace_tune.wording import data_name

    sweep, lane = export.source.sweep, export.source.lane
    assert sweep is not None  # it was asked for before the export
    uri = Study.load(sweep / "study.yaml").tracking_uri
    tags = {"pace.sweep": sweep.name, "pace.trial": lane.name}
    task = data_name(export.run["task"]["name"], str(export.run["task"].get("path") or ""))
    return register(export.folder, uri=uri, task=task, tags=tags, run=export.run, scores=export.scores)
