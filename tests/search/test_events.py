"""What Tune's callback does with a trial that ended."""

from types import SimpleNamespace

import pytest

from pace_tune.search.events import SweepEvents


@pytest.mark.parametrize("how", ["on_trial_complete", "on_trial_error"])
def test_a_trial_that_ended_gives_its_lane_back_and_everyone_is_told(how: str):
    trial = SimpleNamespace(config={"lane": "t0003"})
    ended, released = [], []
    book = SimpleNamespace(entries={3: SimpleNamespace(lane="t0003")})
    client = SimpleNamespace(tell=lambda *words: released.append(words))
    listener = SimpleNamespace(ended=ended.append)
    getattr(SweepEvents(book, client, [listener], leave=lambda: None), how)(1, [trial], trial)
    assert released == [("release", "t0003")]
    assert ended == [book.entries[3]]
