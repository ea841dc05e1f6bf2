import contextlib
import io
import json
from pathlib import Path

import pytest

from pace_tune.errors import ConfigError
from pace_tune.search import sweep as sweep_module
from pace_tune.search.book import Book
from pace_tune.search.sweep import SweepFailedError, run_sweep
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url
from pace_tune.study.sweep_folder import claim_folder
from tests.search.stores import (
    assert_each_trial_is_everywhere_once,
    lanes_in_optuna,
    points_in_mlflow,
    runs_in_mlflow,
)
from tests.search.studies import FAKE, study

FAULTY = {"optim": {"weight_decay": {"choice": [1e-4, 0.1, 0.2, 0.3]}}}
WARM_START = [{"optim.weight_decay": value} for value in (0.1, 0.2, 0.3)]


@pytest.fixture(scope="module")
def store(mlflow_store) -> dict:
    return {"uri": mlflow_store}


def small(output: Path, store: dict, **changes) -> Study:
    return study(output, name=output.name.replace("_", "-"), tracking=store, **changes)


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def swept(ray_cluster, store, said, tmp_path_factory) -> tuple[Study, sweep_module.SweepResult]:
    """A sweep that ran to its end, with trials that fail in each way."""
    output = tmp_path_factory.mktemp("swept")
    search = {"warm_start": WARM_START, "early_stopping": {"grace_epochs": 3}}
    what = small(output, store, trials=10, epochs=6, search=search, **FAULTY)
    with contextlib.redirect_stdout(said):
        return what, run_sweep(what, json_lines=True, worker=FAKE)


def test_a_changed_study_begins_anew_where_nothing_was_learned(ray_cluster, store, tmp_path):
    before = small(tmp_path, store, trials=3, epochs=2)
    Book(before, url=database_url(claim_folder(before))).next()
    changed, shown = small(tmp_path, store, trials=2, epochs=3), io.StringIO()
    with contextlib.redirect_stderr(shown):
        result = run_sweep(changed, json_lines=True, worker=FAKE)
    assert f"no trial of the study in {changed.folder} has finished an epoch, and optim.epochs was 2 and is 3" in shown.getvalue()
    assert [entry.last_epoch for entry in result.trials] == [3, 3]
    with pytest.raises(ConfigError, match=r"optim\.epochs is 3 there and 2 here"):
        run_sweep(before, worker=FAKE)


def test_every_trial_ends_in_tune_and_is_in_optuna_and_in_mlflow_once(swept):
    what, result = swept
    assert result.state == "finished"
    assert result.untracked_bytes == 0
    assert_each_trial_is_everywhere_once(what, trials=10)


def test_each_way_to_end_is_told_apart(swept):
    what, result = swept
    outcomes = {entry.lane: entry.outcome for entry in result.trials}
    assert [outcomes[lane] for lane in ("t0002", "t0003", "t0004")] == ["diverged", "out_of_memory", "failed"]
    states = {run.data.tags["pace.trial"]: (run.info.status, run.data.tags["pace.state"]) for run in runs_in_mlflow(what)}
    assert states["t0000"] == ("FINISHED", "finished")
    assert states["t0004"] == ("FAILED", "failed")
    assert lanes_in_optuna(what)["t0004"].user_attrs["reason"] == "as asked"


def test_the_defaults_and_the_baseline_are_seen_to_their_end(swept):
    _, result = swept
    assert [entry.outcome for entry in result.trials[:2]] == ["finished", "finished"]
    assert result.trials[1].run["objective"]["name"] == "plain"


def test_a_tracked_trial_has_its_run_its_tags_and_its_best(swept):
    what, result = swept
    run = next(run for run in runs_in_mlflow(what) if run.data.tags["pace.trial"] == "t0000")
    tags = {key: run.data.tags[f"pace.{key}"] for key in ("sweep", "task", "method", "objective", "seed")}
    assert tags == {"sweep": what.name, "task": "digits", "method": "lora_add", "objective": "pace", "seed": "0"}
    assert run.data.params["method.rank"] == str(result.trials[0].run["method"]["rank"])
    assert run.data.metrics["best/accuracy"] == max(result.trials[0].curve.values())
    assert run.data.metrics["best/step"] == 6


def test_the_best_is_the_best_finished_trial(swept):
    _, result = swept
    finished = [entry for entry in result.trials if entry.outcome == "finished"]
    assert result.best.value == max(entry.value for entry in finished)


def test_a_finished_sweep_returns_its_result_at_once(swept, monkeypatch):
    what, result = swept
    monkeypatch.setattr(sweep_module, "connected", lambda *_, **__: pytest.fail("nothing is to be started"))
    again = run_sweep(what, quiet=True, worker=FAKE)
    assert again.counts == result.counts
    assert again.best == result.best
    assert again.elapsed_s < 5
    assert (again.was_complete, result.was_complete) == (True, False)


def test_another_study_may_not_move_in(swept, store):
    what, _ = swept
    other = Study.parse({**what.as_mapping(), "method": "linear", "search": {"trials": 3}}, name=what.name)
    with pytest.raises(ConfigError, match="holds another study"):
        run_sweep(other, quiet=True, worker=FAKE)


@pytest.fixture(scope="module")
def interrupted(ray_cluster, store, tmp_path_factory):
    """A sweep that was left in the middle, and then gone on with and extended at once."""
    output = tmp_path_factory.mktemp("interrupted")
    what, longer = (small(output, store, trials=trials, epochs=4, search={"early_stopping": {"name": "none"}}) for trials in (6, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_module.Sweep, "_reason_to_leave", _after_two_trials)
        stopped = run_sweep(what, quiet=True, worker=FAKE)
    states = {run.info.status for run in runs_in_mlflow(what)}
    return longer, stopped, states, run_sweep(longer, quiet=True, worker=FAKE)


def _after_two_trials(self: sweep_module.Sweep, interrupt) -> Exception | None:
    closed = sum(entry.outcome is not None for entry in self.book.entries.values())
    return sweep_module.SweepInterruptedError("enough") if closed >= 2 else None


def test_an_interrupted_sweep_says_so_and_goes_on_where_it_was(interrupted):
    _, stopped, states, extended = interrupted
    assert stopped.state == "interrupted"
    assert 2 <= stopped.counts["finished"] < 6
    assert "RUNNING" not in states
    assert extended.state == "finished"
    for before, after in zip(stopped.trials, extended.trials, strict=False):
        assert (before.number, before.point) == (after.number, after.point)


def test_a_sweep_is_extended_by_a_larger_number(interrupted):
    longer, _, _, extended = interrupted
    assert extended.counts == {"finished": 8}
    assert_each_trial_is_everywhere_once(longer, trials=8)


def test_no_point_is_logged_twice(interrupted):
    longer, *_ = interrupted
    for run in runs_in_mlflow(longer):
        assert [step for step, _ in points_in_mlflow(longer, run, "train/loss")] == [1, 2, 3, 4]


def test_workers_that_cannot_be_set_up_end_the_sweep_with_their_reason(ray_cluster, store, tmp_path):
    what = small(tmp_path, store, trials=2)
    with pytest.raises(SweepFailedError, match=r"could not be set up: RuntimeError: no weights here\. Mend that, then start it again\.$"):
        run_sweep(what, quiet=True, worker="tests.search.fake_worker:BrokenWorker")


def test_what_the_cluster_can_never_place_is_refused_and_nothing_is_written(ray_cluster, tmp_path):
    what = study(tmp_path / "out", resources={"workers": 9})
    with pytest.raises(ConfigError, match="9 workers of 1 CPU cannot be placed"):
        run_sweep(what, quiet=True, worker=FAKE)
    assert not (tmp_path / "out").exists()


def test_json_lines_hold_what_happened(swept, said):
    what, _ = swept
    events = [json.loads(line) for line in said.getvalue().splitlines()]
    assert events[0]["event"] == "note"
    assert events[0]["text"].startswith(f"sweep {what.name}: 10 trials, 1 worker x 2 lanes = 2 at once, 5 rounds; val/accuracy max")
    ends = [event for event in events if event["event"] == "end"]
    assert len({event["trial"] for event in ends}) == 10
    assert sum(ends[-1]["counts"].values()) == 10
    baseline = [event for event in events if event["event"] == "report" and event["trial"] == "t0001"]
    assert [event["epoch"] for event in baseline] == [1, 2, 3, 4, 5, 6]
