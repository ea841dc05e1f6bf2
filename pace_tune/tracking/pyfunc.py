"""Exported models in MLflow: logged under the run that made them, loaded again and scored there, and only then registered.

No global state of MLflow is touched: a user's own tracking address stays what it was.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModelOutput, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema, TensorSpec

from pace_tune.errors import DataError, PaceTuneError, UnknownNameError

ALIAS = "best"
PACKAGES = ("torch", "timm", "transformers", "peft", "safetensors", "pydantic", "pyyaml", "numpy", "pillow", "pandas")
"""What serving needs, at the versions that are here; the package's own code travels with the model."""
BAR = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
ROUNDING = 1e-3
"""Relative difference of a score that another batch order or processor explains."""


def register(exported: Path, *, uri: str, task: str, tags: Mapping[str, str], run: Mapping[str, Any], scores: Mapping[str, float]) -> str:
    """Log an exported model under its run, load it from the store, score it, and register it as its task's best.

    Args:
        exported: What `pace-tune export` wrote.
        uri: Of the tracking store.
        task: Its name gives the registered model's.
        tags: Of the run that made it, e.g. ``{"pace.sweep": "digits", "pace.trial": "t0003"}``.
        run: Its configuration, to find the split that it is scored on.
        scores: What the score must be.

    Returns:
        The model's address, ``models:/NAME@best``.

    Raises:
        UnknownNameError: The store has no such run.
        PaceTuneError: What came back from the store scores differently; nothing is registered then.
    """
    client = MlflowClient(uri)
    parent = find_run(client, tags)
    model = log_export(exported, client=client, run=parent)
    _check(load(uri, model), run=run, scores=scores)
    name = f"pace-tune.{re.sub(r'[^0-9A-Za-z_.-]', '-', task)}"
    try:
        client.create_registered_model(name, description=f"Best models of task {task}; `{ALIAS}` is the one in use.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = {**tags, **{f"val/{key}": f"{value:.6g}" for key, value in scores.items()}}
    made = client.create_model_version(name, model.artifact_location, parent.info.run_id, found, model_id=model.model_id)
    client.update_model_version(name, made.version, (exported / "README.md").read_text(encoding="utf-8"))
    client.set_registered_model_alias(name, ALIAS, made.version)
    return f"models:/{name}@{ALIAS}"


def log_export(exported: Path, *, client: MlflowClient, run: Run) -> Any:
    """Log an exported model as a `pyfunc` model that serves, and return MLflow's record of it."""
    experiment, run_id = run.info.experiment_id, run.info.run_id
    model = client.create_logged_model(experiment, name="exported", source_run_id=run_id, params=run.data.params, model_type="pyfunc")
    with tempfile.TemporaryDirectory() as folder:
        save(exported, Path(folder, "model"), mlflow_model=Model(run_id=run_id, model_id=model.model_id))
        client.log_model_artifacts(model.model_id, str(Path(folder, "model")))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def save(exported: Path, folder: Path, *, mlflow_model: Model | None = None) -> None:
    """Write an exported model as a `pyfunc` model into a folder: ``mlflow models serve -m FOLDER``.

    Raises:
        DataError: It is no exported model.
    """
    import pace_tune

    signature = _signature(exported)
    with _quiet():
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"model": str(exported)},
            code_paths=[str(Path(pace_tune.__file__).parent)],
            pip_requirements=list(_requirements()),
            signature=signature,
            mlflow_model=mlflow_model,
        )
    # Copied along with the code.
    for cache in sorted(folder.rglob("__pycache__"), reverse=True):
        for file in cache.iterdir():
            file.unlink()
        cache.rmdir()


def load(uri: str, model: Any) -> Any:
    """Return a logged model as it comes out of the store."""
    # Not by its `models:/` address, which MLflow looks up in the global store.
    with _quiet():
        path = mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location, tracking_uri=uri)
        return mlflow.pyfunc.load_model(path)


def trial_of(uri: str, run_id: str) -> tuple[str, str]:
    """Return sweep and lane of a trial's run.

    Raises:
        UnknownNameError: The store has no such run.
        DataError: It is no trial of a sweep.
    """
    try:
        tags = MlflowClient(uri).get_run(run_id).data.tags
    except MlflowException as error:
        raise UnknownNameError("MLflow run", run_id, ()) from error
    if "pace.trial" not in tags:
        raise DataError(f"MLflow run {run_id} is no trial of a sweep.")
    return str(tags["pace.sweep"]), str(tags["pace.trial"])


def find_run(client: MlflowClient, tags: Mapping[str, str]) -> Run:
    """Return the newest run that carries some tags.

    Raises:
        UnknownNameError: There is none.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found: Sequence[Run] = client.search_runs(experiments, query, ViewType.ACTIVE_ONLY, 1, ["attributes.start_time DESC"])
    if not found:
        raise UnknownNameError("run in the tracking store", ", ".join(tags.values()), ())
    return found[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's advice on how a model may be logged, and its bars."""
    log = logging.getLogger("mlflow")
    level, bar = log.level, os.environ.get(BAR)
    log.setLevel(logging.ERROR)
    os.environ[BAR] = "false"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        if bar is None:
            del os.environ[BAR]
        else:
            os.environ[BAR] = bar


def _check(loaded: Any, *, run: Mapping[str, Any], scores: Mapping[str, float]) -> None:
    from pace_tune.worker import score_export

    again = score_export(loaded.unwrap_python_model().predictor.folder, run=run)
    for key, value in scores.items():
        if abs(again[key] - value) > ROUNDING * max(1.0, abs(value)):
            raise PaceTuneError(f"the model in the store has val/{key} {again[key]:.4f} instead of {value:.4f}; it is not registered.")


def _signature(exported: Path) -> ModelSignature:
    try:
        spec = json.loads((exported / "preprocess.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{exported}: holds no exported model.") from error
    columns: list[ColSpec | TensorSpec] = (
        [ColSpec("binary", "image")] if spec.get("image_size") else [ColSpec("string", name) for name in spec["columns"]]
    )
    answer: dict[str, list[ColSpec | TensorSpec]] = {
        "class": [ColSpec("string", "label"), ColSpec("double", "probability")],
        "value": [ColSpec("double", "value")],
        "token": [ColSpec("string", "label")],
    }
    return ModelSignature(Schema(columns), Schema(answer[spec["target"]]))


def _requirements() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package}=={version(package)}"
        except PackageNotFoundError:
            continue
