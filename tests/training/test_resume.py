"""A lane that goes on from its file is the lane that was never interrupted, to the last bit."""

import pytest
import torch

from pace_tune.errors import DataError
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane
from tests.training.crews import a_crew, a_run, curve, more, train

RICH = {"data__augment": "crop_flip", "measure__every_epochs": 1, "measure__samples": 8, "optim__clip_grad_norm": 1.0}


@pytest.mark.parametrize("objective", ["pace", "pace_fast", "pace_lazy"])
def test_exact_resume(objective, tmp_path):
    runs = {name: a_run(objective__name=objective, seed=seed, method__rank=2 + seed, **RICH) for name, seed in (("t0", 0), ("t1", 3))}
    undisturbed, first, second = a_crew(), a_crew(), a_crew()
    want = train(undisturbed, runs, epochs=3)
    got = train(first, runs, epochs=1)
    for name, run in runs.items():
        first.lane(name).state.save(tmp_path / name, run=run.as_mapping())
        state, mapping = LaneState.load(tmp_path / name)
        assert mapping == run.as_mapping()
        second.add(Lane(name, run, state), past=got[name])
    rest = more(second, epochs=2)
    for name in runs:
        assert curve(got[name] + rest[name]) == curve(want[name])
        assert_same_state(second.lane(name).state, undisturbed.lane(name).state)
    assert bool(undisturbed.lane("t0").state.memory) == (objective == "pace_fast")


def assert_same_state(got: LaneState, want: LaneState):
    assert (got.steps, got.epoch) == (want.steps, want.epoch)
    for part in ("values", "exp_avg", "exp_avg_sq", "memory"):
        ours, theirs = getattr(got, part), getattr(want, part)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_is_named(content, tmp_path):
    path = tmp_path / "lane.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"lane\.safetensors: not a lane checkpoint"):
        LaneState.load(path)
