"""A sweep whose worker finds its own number of lanes."""

import pytest

from pace_tune.search.sweep import run_sweep
from tests.search.stores import lanes_in_optuna
from tests.search.studies import FAKE, study


@pytest.mark.slow
def test_a_sweep_ends_with_the_results_of_any_number_of_lanes(ray_cluster, mlflow_store, tmp_path):
    values = []
    for lanes in (1, "auto"):
        what = study(tmp_path, name=f"lanes-{lanes}", trials=8, resources={"lanes": lanes}, tracking={"uri": mlflow_store})
        assert run_sweep(what, quiet=True, worker=FAKE).counts["finished"] > 0
        values.append({lane: trial.intermediate_values for lane, trial in lanes_in_optuna(what).items() if trial.state.name == "COMPLETE"})
    assert values[0]
    shared = values[0].keys() & values[1].keys()
    assert {lane: values[0][lane] for lane in shared} == {lane: values[1][lane] for lane in shared}
