"""Out of memory divides the batch, not the result."""

import pytest
import torch

from pace_tune.training.population import Population
from tests.training.crews import a_crew, a_run, curve, more, train

BACKWARD = Population._backward


def fits(samples: int):
    """A device on which a pass of more than `samples` samples a lane runs out of memory."""

    def backward(self, batch, *, share):
        if batch.samples > samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")
        return BACKWARD(self, batch, share=share)

    return backward


@pytest.mark.parametrize("objective", ["plain", "noise", "pace", "pace_fast", "pace_lazy", "pace_detached"])
def test_a_divided_step_has_the_losses_of_the_whole(objective, monkeypatch):
    # Augmentation, DropPath renormalised over the batch, an odd batch (of which pace_lazy looks at an even part only).
    changes = {"objective__name": objective, "data__augment": "crop_flip", "optim__batch_size": 8 if objective == "pace_lazy" else 7}
    runs = {"t0": a_run(**changes), "t1": a_run(**changes, seed=1, method__rank=5)}
    whole = train(a_crew(dtype=torch.float64), runs, epochs=2)
    crew = a_crew(dtype=torch.float64)
    monkeypatch.setattr(Population, "_backward", fits(3))
    parts = train(crew, runs, epochs=2)
    (population,) = crew._populations.values()
    assert population.micro_batches > 1
    for name in runs:
        keys = ("train/loss", "train/task_loss", "train/consistency", "val/loss")
        assert curve(parts[name], *keys) == pytest.approx(curve(whole[name], *keys), rel=1e-10)


def test_the_epoch_under_way_starts_again(monkeypatch):
    runs = {"t0": a_run(objective__name="pace_fast")}
    whole = train(a_crew(dtype=torch.float64), runs, epochs=3)
    crew = a_crew(dtype=torch.float64)
    first = train(crew, runs, epochs=1)

    def late(self, batch, *, share):
        # Two steps of the epoch have moved weights, moments and memory when memory runs out.
        return (fits(4) if batch.count_K[0] >= 7 else BACKWARD)(self, batch, share=share)

    monkeypatch.setattr(Population, "_backward", late)
    rest = more(crew, epochs=2)
    assert curve(first["t0"] + rest["t0"]) == pytest.approx(curve(whole["t0"]), rel=1e-10)


def test_a_lane_that_fits_in_no_part_is_reported(monkeypatch):
    monkeypatch.setattr(Population, "_backward", fits(1))
    reports = train(a_crew(), {"t0": a_run()}, epochs=1)
    (report,) = reports["t0"]
    assert (report["state"], report["epoch"], report["metrics"]) == ("out_of_memory", 1, {})
    assert "CUDA out of memory" in report["reason"]
