"""Early stopping replayed on recorded curves: what a sweep would have trained and called the best."""

import runpy
import statistics
from pathlib import Path

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "early_stopping.py"))


def recorded(curves, *, losses=(), grace_epochs=1, references=2, seeds=()):
    about = {"study": "s", "grace_epochs": grace_epochs, "reduction": 3.0, "slots": 4, "sign": 1.0, "winners": {}}
    return BENCHMARK["Recorded"](curves=curves, losses=losses, references=references, first=references, seeds=seeds, **about)


def test_of_equal_trials_those_that_arrive_first_go_on_whatever_their_numbers():
    equal = recorded(((0.5,) * 9,) * 12)
    references, others = [0, 1], list(range(2, 12))
    forward = BENCHMARK["replayed"](equal, references + others)
    backward = BENCHMARK["replayed"](equal, references + others[::-1])
    assert (forward[0], len(forward[2])) == (backward[0], len(backward[2]))


def test_of_equal_values_the_lower_validation_loss_is_called_the_best():
    values = ((0.5, 0.5),) * 3
    for best in range(3):
        losses = tuple((1.0, 0.2 if trial == best else 0.8) for trial in range(3))
        assert BENCHMARK["replayed"](recorded(values, losses=losses, grace_epochs=2), range(3))[1] == best


def test_references_are_seen_to_their_end_and_of_worse_and_worse_trials_few():
    values = (0.0, 0.0, *(0.9 - 0.05 * trial for trial in range(10)))
    curves = tuple((value,) * 9 for value in values)
    spent, winner, seen = BENCHMARK["replayed"](recorded(curves), range(12))
    assert winner == 2
    assert {0, 1, 2} <= set(seen)
    assert len(seen) < 6
    assert spent < 12 * 9 / 2


def test_what_rungs_would_do_alone_is_told_from_what_references_do():
    # The best of all begins last and is a reference.
    late = (0.1,) * 8 + (0.9,)
    curves = (late, (*late[:-1], 0.2), *((0.5 + 0.01 * trial,) * 9 for trial in range(10)))
    found = BENCHMARK["figures"](recorded(curves, seeds=(0.89, 0.9, 0.91)), count=50)
    assert found["within_spread"] == 1
    assert found["rungs_alone"]["within_spread"] < 0.5
    assert found["rungs_alone"]["lost_mean"] > 0.1
    assert found["tied"] == 0


def test_every_committed_recording_is_replayed():
    folder = Path(__file__).parents[2] / "benchmarks" / "curves"
    names = {path.stem for path in folder.glob("*.json")}
    assert names >= {"digits", "cifar_small_batch", "cifar_16_epochs", "cifar_40_epochs"}
    for name in names:
        kept = BENCHMARK["Recorded"].read(folder / f"{name}.json")
        found = BENCHMARK["figures"](kept, count=5)
        assert 0 < found["share_of_epochs"] < 1, name
        assert found["reseeded"] == statistics.mean(kept.seeds), name
