"""A sweep whose worker is several processes that train each batch together."""

import pytest

from pace_tune.search.plan import plan_sweep
from pace_tune.search.sweep import SweepResult, run_sweep
from tests.search.studies import study

GRID = {
    "task": {"name": "digits", "shots": 3, "val_per_class": 3},
    "method": {"name": "lora_add", "rank": {"choice": [2, 4]}},
    "objective": {"name": "pace", "sigma": 1.0},
    "optim": {"lr": 1e-3, "epochs": 2, "warmup_epochs": 0, "batch_size": 8, "weight_decay": 0.0},
    "search": {
        "metric": "val/loss",
        "mode": "min",
        "sampler": "grid",
        "trials": None,
        "baseline": False,
        "early_stopping": {"name": "none"},
    },
}


def losses(result: SweepResult) -> dict[str, float]:
    return {entry.lane: entry.value for entry in result.trials if entry.value is not None}


@pytest.mark.slow
def test_a_worker_of_two_processes_finds_what_one_process_does(ray_cluster, mlflow_store, tmp_path):
    found = []
    for name, processes, spread in (("one", 1, False), ("two", 2, False), ("spread", 2, True)):
        resources = {"workers": 1, "lanes": 2, "processes_per_worker": processes, "cpus_per_worker": 0.5, "shard_backbone": spread}
        what = study(tmp_path, name=f"team-{name}", tracking={"uri": mlflow_store}, resources=resources, **GRID)
        found.append(run_sweep(what, json_lines=True))
    assert [result.state for result in found] == ["finished"] * 3
    one, two, spread_over_two = (losses(result) for result in found)
    assert len(one) == 2
    assert two == pytest.approx(one, rel=1e-4)
    assert spread_over_two == two


def test_gpus_of_a_worker_have_a_process_each(tmp_path):
    what = study(tmp_path, resources={"workers": 2, "lanes": 4, "gpus_per_worker": 4})
    request = plan_sweep(what, nodes=[{"CPU": 16.0, "GPU": 8.0}]).request
    assert (request.processes, request.places, request.bundle()) == (4, 8, {"CPU": 1.0, "GPU": 1.0})
