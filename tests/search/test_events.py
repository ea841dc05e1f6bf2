"""What Tune's callback does with a trial that ended."""

import json
from pathlib import Path
from types import SimpleNamespace

from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial

from pace_tune.search.events import SweepEvents


def test_a_trial_that_ended_takes_no_place_in_memory_and_snapshots(tmp_path: Path):
    config = {"lane": "t0003", "dispatcher": "one", "run": {"optim": {"lr": [0.125] * 500}}}
    storage = StorageContext(str(tmp_path), "tune")
    trial = Trial(
        "LaneTrial", config=config, evaluated_params={"run/optim/lr": "0.125"}, experiment_tag="lr=0.125", stub=True, storage=storage
    )
    for epoch in (1, 2):
        trial.update_last_result({"report": {"metrics": {"val/accuracy": 0.5 * epoch}}, "training_iteration": epoch})
    before = "".join(trial.get_json_state())
    assert "val/accuracy" in before
    assert "0.125" in before
    ended, released = [], []
    book = SimpleNamespace(entries={3: SimpleNamespace(lane="t0003")})
    client = SimpleNamespace(tell=lambda *words: released.append(words))
    listener = SimpleNamespace(ended=ended.append)
    SweepEvents(book, client, [listener], leave=lambda: None).on_trial_complete(1, [trial], trial)
    assert released == [("release", "t0003")]
    assert ended == [book.entries[3]]
    after = trial.get_json_state()
    assert trial.run_metadata.metric_analysis == {}
    assert "0.125" not in "".join(after)
    assert json.loads(after[0])["config"] == {"lane": "t0003"}
