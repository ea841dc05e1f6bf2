"""A Tune trial's process that dies while it is given to the next trial: that one is started again, in a process of its own."""

import os
from pathlib import Path
from typing import Any

import pytest

from pace_tune.search import experiment
from pace_tune.search.sweep import run_sweep
from pace_tune.search.trial import LaneTrial
from tests.search.stores import assert_each_trial_is_everywhere_once, lanes_in_optuna
from tests.search.studies import FAKE, study


class DiesBetweenTrials(LaneTrial):
    """Dies when it is to become certain trials, once for each."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        died = Path(new_config["run"]["data"]["cache"]) / new_config["lane"]
        if new_config["lane"] in ("t0003", "t0004", "t0007") and not died.exists():
            died.touch()
            os._exit(1)
        return super().reset_config(new_config)


def test_a_trial_whose_process_dies_before_it_has_begun_is_not_lost(
    ray_cluster: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    monkeypatch.setattr(experiment, "LaneTrial", DiesBetweenTrials)
    changes = {"search": {"early_stopping": {"name": "none"}}, "tracking": {"uri": mlflow_store}, "data": {"cache": str(deaths)}}
    what = study(tmp_path, name="reused", trials=10, **changes)
    assert run_sweep(what, quiet=True, worker=FAKE).state == "finished"
    assert len(list(deaths.iterdir())) > 0, "no process was reused for these trials"
    assert {trial.user_attrs["outcome"] for trial in lanes_in_optuna(what).values()} == {"finished"}
    assert_each_trial_is_everywhere_once(what, trials=10)
