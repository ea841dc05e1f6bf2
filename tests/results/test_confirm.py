"""Against a fake worker that keeps the real one's contract: scores are planned, files are not needed."""

import json
import math
import random
import sys
from types import ModuleType

import pytest
from scipy.stats import binom, nct, t

from pace_tune.errors import ConfigError, PaceTuneError
from pace_tune.results.best import BestRun
from pace_tune.results.confirm import AGAINST, Score, confirm, own_settings, recipes_of, summarise
from pace_tune.results.confirm_table import announcement, confirmation_view, verdict_text
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


def test_a_confirmation_knows_its_trial_and_whose_settings_stand_beside_it():
    plain = {**RUN, "objective": "plain"}
    with_rival = best_run(plain, rival=RUN, rival_lane="t0007")
    assert own_settings(with_rival, AGAINST) == {"pace": "t0007"}
    assert own_settings(with_rival, ("plain", "pace")) == {}
    assert own_settings(best_run(rival=plain, rival_lane="t0007"), AGAINST) == {}
    assert recipes_of(with_rival, AGAINST)["pace"].objective.sigma == 1.25
    assert summarise(with_rival, [Score(recipe="plain", seed=0, state="finished", value=0.5)]).trial == "t0003"


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


def test_the_winner_meets_plain_and_noise_all_trained_on_all_and_scored_once_per_seed(worker, tmp_path):
    found = confirm(best_run(), seeds=3, storage=tmp_path)
    (made,) = worker.made
    assert set(made.setup) == {"task", "backbone", "data"}
    assert made.setup["data"]["train_on"] == "train+val"
    assert len(made.scored) == len(set(made.scored)) == 9
    assert all(scored.endswith(" test") for scored in made.scored)
    assert {(c["objective"]["name"], c["seed"]) for c in made.configs.values()} == {
        (n, s) for n in ("pace", "plain", "noise") for s in range(3)
    }
    assert all(config["optim"]["lr"] == 0.01 and config["measure"]["every_epochs"] == 0 for config in made.configs.values())
    plain, noise = found.comparisons
    assert (plain.winner, plain.other, plain.verdict) == ("pace", "plain", "better")
    assert plain.difference.mean == pytest.approx(0.1)
    assert (noise.other, noise.verdict, noise.difference.mean) == ("noise", "cannot tell", 0.0)
    assert found.scores[0].scores == {"accuracy": found.scores[0].value}
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
    assert len(found.scores) == 21


def test_a_run_that_broke_is_shown_and_left_out(worker, tmp_path):
    worker.broken = {"plain": "diverged"}
    found = confirm(best_run(), seeds=2, storage=tmp_path)
    assert [(s.state, s.value, s.reason) for s in found.scores if s.recipe == "plain"] == [("diverged", None, "as planned")] * 2
    assert found.comparisons[0].verdict == "cannot tell"
    assert json.loads(json.dumps(found.as_mapping(), allow_nan=False))["means"]["plain"]["mean"] is None


def test_progress_is_told_and_a_dead_worker_is_not_waited_for(worker, tmp_path):
    seen = []
    confirm(best_run(), seeds=1, storage=tmp_path, on_report=seen.append)
    assert len(seen) == 9
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


def planted(draw, gains, *, seeds=5):
    """Scores with noise that recipes of one seed share, and noise of their own."""
    shared = [draw.gauss(0, 0.02) for _ in range(seeds)]
    return [
        Score(recipe=recipe, seed=seed, state="finished", value=0.9 + gain + shared[seed] + draw.gauss(0, OWN_NOISE))
        for recipe, gain in gains.items()
        for seed in range(seeds)
    ]


SIMULATIONS = 200
GAIN, OWN_NOISE = 0.03, 0.005


def stated_power(seeds):
    """How often the paired t-test of GAIN finds it: the tail of the noncentral t distribution."""
    strength = GAIN / (OWN_NOISE * math.sqrt(2 / seeds))
    return float(nct.sf(t.ppf(0.975, seeds - 1), seeds - 1, strength))


def likely(rate):
    """The counts that 99.9 % of all such simulations give for an event of this rate."""
    low, high = binom.interval(0.999, SIMULATIONS, rate)
    return range(int(low), int(high) + 1)


@pytest.mark.parametrize("seeds", [3, 5])
def test_verdicts_come_at_the_stated_rates_on_a_planted_study(seeds):
    """Beside the winner one recipe is truly worse and one truly equal: "better" at the test's power, "cannot tell" at 95 %."""
    draw, best = random.Random(seeds), best_run()
    gains = {"pace": GAIN, "plain": 0.0, "noise": GAIN}
    found = [summarise(best, planted(draw, gains, seeds=seeds)).comparisons for _ in range(SIMULATIONS)]
    worse, equal = ([one.verdict for comparisons in found for one in comparisons if one.other == other] for other in ("plain", "noise"))
    assert equal.count("cannot tell") in likely(0.95)
    assert equal.count("better") in likely(0.025)
    assert worse.count("better") in likely(stated_power(seeds))
    assert "worse" not in worse


def test_the_p_value_says_what_the_interval_says():
    draw, best = random.Random(7), best_run()
    for gain in (0.0, 0.005, 0.01, 0.03):
        (comparison,) = summarise(best, planted(draw, {"pace": gain, "plain": 0.0})).comparisons
        assert (comparison.p_value < 0.05) == (comparison.verdict != "cannot tell")
    (alone,) = summarise(best, planted(draw, {"pace": 0.0, "plain": 0.0}, seeds=1)).comparisons
    assert (alone.p_value, alone.verdict) == (None, "cannot tell")


def test_what_is_about_to_be_trained_is_said_and_that_two_seeds_are_few():
    assert (
        announcement("s", recipes_of(best_run(), AGAINST), seeds=3) == "s: 3 recipes (pace, plain, noise) x 3 seeds = 9 runs on train+val"
    )
    assert "two seeds give hardly an interval" in announcement("s", ["pace", "plain"], seeds=2)
    assert announcement("s", ["pace"], seeds=1) == "s: 1 recipe (pace) x 1 seed = 1 run on train+val"


def test_the_view_says_the_verdict_in_words(worker, tmp_path):
    from rich.console import Console

    from pace_tune.results.majority import Floor

    found = confirm(best_run(), seeds=2, storage=tmp_path)
    with (console := Console(width=160)).capture() as captured:
        console.print(confirmation_view(found, floor=Floor(0.125, 200)))
    verdict = "pace against plain: better, paired difference +0.1000"
    for shown in (
        "Saying the commonest class every time: 0.1250, of 200 examples.",
        "200 others may move a mean up to ± 0.069",
        "test/accuracy after retraining on train+val",
        "seed 1",
        "0.9010",
        verdict,
    ):
        assert shown in captured.get()
    single = confirm(best_run(), seeds=1, storage=tmp_path)
    assert "cannot tell, 1 seed was scored in both" in verdict_text(single.comparisons[0])
