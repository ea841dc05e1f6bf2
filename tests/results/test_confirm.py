"""Against a fake worker that keeps the real one's contract: scores are planned, files are not needed."""

import json
import random
import sys
from types import ModuleType

import pytest

from pace_tune.errors import ConfigError, PaceTuneError
from pace_tune.results.best import BestRun
from pace_tune.results.confirm import Score, confirm, recipes_of, summarise
from pace_tune.results.confirm_table import confirmation_view, verdict_text
from pace_tune.study.run_config import RunConfig

RUN = {
    "task": "digits",
    "backbone": "vit_nano_cifar10",
    "method": {"name": "lora_add", "rank": 4},
    "objective": {"name": "pace", "sigma": 1.25, "lambda": 0.5},
    "optim": {"lr": 0.01, "epochs": 3},
}


def best_run(config=RUN, rival=None, **changes):
    fields = {
        "sweep": "digits",
        "task": "digits",
        "lane": "t0003",
        "metric": "val/accuracy",
        "higher_is_better": True,
        "value": 0.9,
        "val_loss": 0.3,
        "epochs": 3,
        "finished": 9,
        "config": RunConfig.model_validate(config).as_mapping(),
        "rival": rival and RunConfig.model_validate(rival).as_mapping(),
    }
    return BestRun(**{**fields, **changes})


class FakeWorker:
    """Trains nothing: a lane ends after its epochs; its score is a function of objective and seed."""

    made: list["FakeWorker"]
    broken: dict[str, str]
    silent = False

    def __init__(self, setup, *, storage, threads=None, device=None):
        self.setup, self.storage, self.configs, self.epochs, self.most = setup, storage, {}, {}, 0
        self.opened: list[str] = []
        self.scored: list[str] = []
        FakeWorker.made.append(self)

    def open(self, lane, config):
        self.configs[lane], self.epochs[lane] = config, 0
        self.opened.append(lane)
        self.most = max(self.most, len(self.epochs))
        return []

    def advance(self):
        if FakeWorker.silent:
            return []
        return [self._report(lane) for lane in list(self.epochs)]

    def score(self, lane, split):
        assert lane not in self.epochs, "a lane is scored after it has ended"
        self.scored.append(f"{lane} {split}")
        config = self.configs[lane]
        return {"accuracy": {"pace": 0.9, "plain": 0.8, "noise": 0.9}[config["objective"]["name"]] + 0.001 * config["seed"] ** 2}

    def _report(self, lane):
        self.epochs[lane] += 1
        epochs = self.configs[lane]["optim"]["epochs"]
        name = self.configs[lane]["objective"]["name"]
        state = FakeWorker.broken.get(name, "finished") if self.epochs[lane] == epochs else "running"
        report = {"lane": lane, "epoch": self.epochs[lane], "epochs": epochs, "state": state, "reason": "as planned", "metrics": {}}
        if state != "running":
            del self.epochs[lane]
        return report


@pytest.fixture
def worker(monkeypatch):
    FakeWorker.made, FakeWorker.broken, FakeWorker.silent = [], {}, False
    module = ModuleType("pace_tune.worker")
    module.Worker = FakeWorker
    monkeypatch.setitem(sys.modules, "pace_tune.worker", module)
    return FakeWorker


def test_the_winner_and_its_plain_twin_are_trained_on_all_and_scored_once_per_seed(worker, tmp_path):
    found = confirm(best_run(), seeds=3, storage=tmp_path)
    (made,) = worker.made
    assert set(made.setup) == {"task", "backbone", "data"}
    assert made.setup["data"]["train_on"] == "train+val"
    assert len(made.scored) == len(set(made.scored)) == 6
    assert all(scored.endswith(" test") for scored in made.scored)
    assert {(c["objective"]["name"], c["seed"]) for c in made.configs.values()} == {(n, s) for n in ("pace", "plain") for s in range(3)}
    assert all(config["optim"]["lr"] == 0.01 and config["measure"]["every_epochs"] == 0 for config in made.configs.values())
    (comparison,) = found.comparisons
    assert (comparison.winner, comparison.other, comparison.verdict) == ("pace", "plain", "better")
    assert comparison.difference.mean == pytest.approx(0.1)
    assert found.means["pace"].mean == pytest.approx(0.9 + 0.005 / 3)


def test_an_objective_keeps_the_fields_it_shares_with_the_winner():
    recipes = recipes_of(best_run(), ["plain", "noise"])
    assert list(recipes) == ["pace", "plain", "noise"]
    assert recipes["noise"].objective.sigma == 1.25
    assert recipes["plain"].method == recipes["pace"].method


def test_a_plain_winner_meets_the_best_run_with_another_objective():
    plain = {**RUN, "objective": "plain"}
    recipes = recipes_of(best_run(plain, rival={**RUN, "optim": {"lr": 0.002, "epochs": 3}}), ["plain"])
    assert list(recipes) == ["plain", "pace"]
    assert recipes["pace"].optim.lr == 0.002
    assert recipes["pace"].data.train_on == "train+val"


def test_lane_names_tell_recipes_apart_so_that_checkpoints_never_mix(worker, tmp_path):
    for lr in (0.01, 0.02):
        confirm(best_run({**RUN, "optim": {"lr": lr, "epochs": 3}}), seeds=1, storage=tmp_path)
    first, second = (set(made.opened) for made in worker.made)
    assert not first & second


def test_more_runs_than_lanes_wait_for_their_turn(worker, tmp_path):
    found = confirm(best_run(), seeds=7, storage=tmp_path)
    assert worker.made[0].most == 8
    assert len(found.scores) == 14


def test_a_run_that_broke_is_shown_and_left_out(worker, tmp_path):
    worker.broken = {"plain": "diverged"}
    found = confirm(best_run(), seeds=2, storage=tmp_path)
    assert [(s.state, s.value, s.reason) for s in found.scores if s.recipe == "plain"] == [("diverged", None, "as planned")] * 2
    assert found.comparisons[0].verdict == "cannot tell"
    assert json.loads(json.dumps(found.as_mapping(), allow_nan=False))["means"]["plain"]["mean"] is None


def test_progress_is_told_and_a_dead_worker_is_not_waited_for(worker, tmp_path):
    seen = []
    confirm(best_run(), seeds=1, storage=tmp_path, on_report=seen.append)
    assert len(seen) == 6
    worker.silent = True
    with pytest.raises(PaceTuneError, match="the worker stopped reporting"):
        confirm(best_run(), seeds=1, storage=tmp_path)


def test_wrong_calls_are_refused_before_anything_trains(worker, tmp_path):
    with pytest.raises(ConfigError, match="`seeds >= 1` must hold"):
        confirm(best_run(), seeds=0, storage=tmp_path)
    with pytest.raises(PaceTuneError, match="unknown objective 'pase'"):
        confirm(best_run(), objectives=("pase",), storage=tmp_path)
    assert not worker.made


def test_a_lower_score_is_better_where_the_task_says_so():
    scores = [Score(recipe=r, seed=s, state="finished", value=v + 0.01 * s) for r, v in (("pace", 1.0), ("plain", 2.0)) for s in range(3)]
    assert summarise(best_run(higher_is_better=False), scores).comparisons[0].verdict == "better"
    assert summarise(best_run(), scores).comparisons[0].verdict == "worse"


def planted(draw, gain, *, seeds=5):
    """Scores with noise that a pair shares and noise of its own."""
    shared = [draw.gauss(0, 0.02) for _ in range(seeds)]
    means = {"pace": 0.9 + gain, "plain": 0.9}
    return [
        Score(recipe=recipe, seed=seed, state="finished", value=mean + shared[seed] + draw.gauss(0, 0.005))
        for recipe, mean in means.items()
        for seed in range(seeds)
    ]


def test_verdicts_keep_their_error_rates_on_planted_recipes():
    draw, best = random.Random(0), best_run()
    equal = [summarise(best, planted(draw, 0.0)).comparisons[0].verdict for _ in range(400)]
    truly_better = [summarise(best, planted(draw, 0.03)).comparisons[0].verdict for _ in range(400)]
    assert equal.count("cannot tell") / 400 == pytest.approx(0.95, abs=0.035)
    assert truly_better.count("better") / 400 > 0.95


def test_the_view_says_the_verdict_in_words(worker, tmp_path):
    from rich.console import Console

    found = confirm(best_run(), seeds=2, storage=tmp_path)
    with (console := Console(width=120)).capture() as captured:
        console.print(confirmation_view(found))
    verdict = "pace against plain: better, paired difference +0.1000"
    for shown in ("test/accuracy after retraining on train+val", "seed 1", "0.9010", verdict):
        assert shown in captured.get()
    single = confirm(best_run(), seeds=1, storage=tmp_path)
    assert "cannot tell, 1 seed was scored in both" in verdict_text(single.comparisons[0])
