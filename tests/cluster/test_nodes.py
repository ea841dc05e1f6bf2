"""A head and two workers with networks of their own, PostgreSQL, MLflow and S3 beside them: real training, sent from outside."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import optuna
import pytest
import yaml

from pace_tune import storage as storage_module
from pace_tune.cluster.jobs import Cluster
from pace_tune.results.sweep_data import read_sweep
from pace_tune.storage import open_storage
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import VARIABLE
from tests import servers
from tests.faults import nodes
from tests.search.stores import runs_in_mlflow
from tests.search.studies import tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800, method="signal")]
TRIALS, EPOCHS = 24, 6
JOB_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Place:
    """What a user of a cluster has."""

    cluster: nodes.Cluster
    store: servers.Mlflow
    folder: Path

    def study_file(self, name: str, *, trials: int, workers: int, cpus: float) -> Path:
        small = {"task": {"name": "digits", "shots": 2, "val_per_class": 2}, "method": "linear", "objective": "plain"}
        whole = {**tree(self.cluster.sweeps, name=name, trials=trials, epochs=EPOCHS), **small, "measure": {"every_epochs": 0}}
        whole["search"] |= {"baseline": False, "early_stopping": {"name": "none"}}
        whole |= {"resources": {"workers": workers, "lanes": 3, "cpus_per_worker": cpus}, "storage": "s3://sweeps/users"}
        whole["tracking"] = {"uri": self.store.uri, "experiment": "digits"}
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(whole))
        return file


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if not nodes.can_make_networks():
        pytest.skip("networks of nodes need root and `ip`")
    folder = tmp_path_factory.mktemp("nodes")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        network = stack.enter_context(nodes.network(3))
        database = stack.enter_context(servers.postgres(network.host))
        s3 = stack.enter_context(servers.s3(folder / "s3", host=network.host, buckets=("sweeps", "mlflow")))
        address = database.url("mlflow")
        store = servers.Mlflow(folder / "mlflow", store=address, artifacts="s3://mlflow", variables=s3.variables, host=network.host)
        store.start()
        stack.callback(store.kill)
        variables = {**s3.variables, VARIABLE: database.url(), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        cluster = stack.enter_context(nodes.cluster(variables, network=network))
        for name, value in {**variables, "RAY_AUTH_TOKEN": cluster.token}.items():
            patch.setenv(name, value)
        storage_module._s3.cache_clear()
        yield Place(cluster, store, folder)
    storage_module._s3.cache_clear()


class Follower:
    """``logs -f``, in a thread."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.lines: list[str] = []
        self._thread = threading.Thread(target=lambda: self.lines.extend(cluster.follow(name)), daemon=True)
        self._thread.start()

    def ended(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


def finished(study: Study) -> int:
    if study.name not in optuna.get_all_study_names(books()):
        return 0
    return sum(trial.state.is_finished() for trial in optuna.load_study(study_name=study.name, storage=books()).get_trials())


@cache
def books() -> optuna.storages.RDBStorage:
    # One for all looks: each would keep connections of its own, and the server has a hundred.
    return optuna.storages.RDBStorage(os.environ[VARIABLE])


def test_a_sweep_over_three_nodes_is_stopped_goes_on_and_shares_them(place: Place):
    cluster = Cluster(place.cluster.dashboard)
    large, other = place.study_file("large", trials=TRIALS, workers=2, cpus=1.5), place.study_file("other", trials=3, workers=1, cpus=0.25)
    study = Study.load(large)
    assert not cluster.submit(large).attached
    follower = Follower(cluster, "large")
    assert not cluster.submit(other).attached
    assert cluster.submit(large).attached
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while finished(study) < 3 and time.monotonic() < deadline:
        assert cluster.status("large").state in {"pending", "running"}, cluster.logs("large")
        time.sleep(1.0)
    assert cluster.stop("large").state == "stopped"
    assert follower.ended(JOB_TIMEOUT_S)
    assert f"{TRIALS} trials, 2 workers x 3 lanes" in "".join(follower.lines)
    before = finished(study)
    assert 3 <= before < TRIALS
    assert not cluster.resume("large").attached
    assert cluster.wait("large", timeout_s=JOB_TIMEOUT_S).state == "finished", cluster.logs("large")
    assert cluster.wait("other", timeout_s=JOB_TIMEOUT_S).state == "finished", cluster.logs("other")
    assert {job.name: job.state for job in cluster.list()} == {"large": "finished", "other": "finished"}
    assert "View run" not in cluster.logs("large")
    assert_all_is_there_once(study)


def assert_all_is_there_once(study: Study) -> None:
    lanes = {f"t{number:04d}" for number in range(TRIALS)}
    trials = optuna.load_study(study_name=study.name, storage=books()).get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * TRIALS
    assert Counter(run.data.tags["pace.trial"] for run in runs_in_mlflow(study)) == Counter(dict.fromkeys(lanes, 1))
    kept = open_storage(f"{study.storage}/{study.name}").versions()
    assert {name.split("/")[1] for name in kept if name.endswith("lane.safetensors")} == lanes
    assert {"study.yaml", "best.yaml", "report.html"} <= set(kept)
    # The head fetched their histories for its report; nothing was ever written there by a worker.
    sweep = read_sweep(study.folder)
    assert all(len(trial.reports) == EPOCHS for trial in sweep.trials)
    assert not list(study.folder.rglob("lane.safetensors"))
