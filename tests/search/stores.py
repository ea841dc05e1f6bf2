"""What the three stores of a sweep say about its trials, read as anyone else would read them."""

from collections import Counter
from pathlib import Path

import optuna
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pace_tune.search.entry import lane_name
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url
from pace_tune.tracking.spool import Spool


def lanes_in_optuna(study: Study) -> dict[str, optuna.trial.FrozenTrial]:
    trials = optuna.load_study(study_name=study.name, storage=database_url(study.folder)).get_trials()
    return {lane_name(trial.number): trial for trial in trials}


def ends_of_lanes(study: Study) -> Counter[str]:
    """How often each lane ended, in the words of Tune's callback that the spool keeps."""
    events, _ = Spool(study.folder / "spool").read(0)
    return Counter(event["lane"] for event in events if event["kind"] == "end")


def runs_in_mlflow(study: Study) -> list[Run]:
    client = MlflowClient(study.tracking_uri)
    experiment = client.get_experiment_by_name(study.experiment)
    query = f"tags.`pace.sweep` = '{study.name}' AND tags.`pace.kind` = 'trial'"
    return list(client.search_runs([experiment.experiment_id], query, max_results=1000))


def points_in_mlflow(study: Study, run: Run, metric: str) -> list[tuple[int, float]]:
    history = MlflowClient(study.tracking_uri).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)


def assert_each_trial_is_everywhere_once(study: Study, *, trials: int) -> None:
    names = {lane_name(number) for number in range(trials)}
    in_optuna, in_mlflow = lanes_in_optuna(study), runs_in_mlflow(study)
    assert set(in_optuna) == names
    assert all(trial.state.is_finished() for trial in in_optuna.values())
    assert ends_of_lanes(study) == Counter(dict.fromkeys(names, 1))
    assert Counter(run.data.tags["pace.trial"] for run in in_mlflow) == Counter(dict.fromkeys(names, 1))
    for run in in_mlflow:
        trial = in_optuna[run.data.tags["pace.trial"]]
        assert (
            run.info.status == {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}[trial.state.name]
            or trial.user_attrs["outcome"] == "diverged"
        )
        assert run.data.tags["pace.state"] == trial.user_attrs["outcome"]
        # No point is missing and none is there twice.
        assert points_in_mlflow(study, run, study.metric) == sorted(trial.intermediate_values.items())


def worker_pid(folder: Path) -> int:
    return int((folder / "worker.pid").read_text())
