"""What Tune's callback does with a trial that ended."""

from types import SimpleNamespace

from ray.tune.trainable.metadata import _TrainingRunMetadata

from pace_tune.search.events import SweepEvents


def test_a_trial_that_ended_takes_its_statistics_out_of_memory_and_snapshots():
    metadata = _TrainingRunMetadata()
    for step in (1, 2):
        metadata.update_metric("report/metrics/val/accuracy", 0.5 * step, step=step)
    assert "val/accuracy" in metadata.get_json_state()
    ended, released = [], []
    book = SimpleNamespace(entries={3: SimpleNamespace(lane="t0003")})
    client = SimpleNamespace(tell=lambda *words: released.append(words))
    listener = SimpleNamespace(ended=ended.append)
    trial = SimpleNamespace(config={"lane": "t0003"}, run_metadata=metadata)
    SweepEvents(book, client, [listener], leave=lambda: None).on_trial_complete(1, [trial], trial)
    assert released == [("release", "t0003")]
    assert ended == [book.entries[3]]
    assert "val/accuracy" not in metadata.get_json_state()
