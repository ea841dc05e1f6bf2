"""Learning rates: what was published, and the standard form."""

import math

import pytest
import torch
from timm.scheduler.cosine_lr import CosineLRScheduler

from pace_tune.study.run_config import OptimConfig
from pace_tune.training.schedule import learning_rates


def rates(optim: OptimConfig, *, steps: int) -> list[float]:
    return [rate for epoch in range(optim.epochs) for rate in learning_rates(optim, epoch=epoch, steps=steps)]


@pytest.mark.parametrize(("epochs", "warmup"), [(100, 10), (30, 3), (12, 0), (11, 10), (1, 0)])
def test_cosine_published_is_timms_scheduler_as_the_published_code_drives_it(epochs, warmup):
    optim = OptimConfig(epochs=epochs, warmup_epochs=warmup, lr=5e-3, schedule="cosine_published")
    stepped = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=optim.lr)
    scheduler = CosineLRScheduler(
        stepped, t_initial=epochs, warmup_t=warmup, lr_min=optim.min_lr, warmup_lr_init=optim.warmup_lr, cycle_decay=0.1
    )
    for epoch in range(epochs):
        got = learning_rates(optim, epoch=epoch, steps=7)
        assert got == pytest.approx([stepped.param_groups[0]["lr"]] * 7, rel=1e-12)
        scheduler.step(epoch)  # after the epoch, with its own number: every epoch runs one late


def test_cosine_warms_up_step_by_step_and_ends_at_the_minimum():
    optim = OptimConfig(epochs=10, warmup_epochs=2, lr=1e-2, warmup_lr=1e-6, min_lr=1e-5)
    got = rates(optim, steps=5)
    warm, cosine = got[:10], got[10:]
    assert warm == pytest.approx([1e-6 + (1e-2 - 1e-6) * (i + 1) / 10 for i in range(10)])
    assert cosine == pytest.approx([1e-5 + (1e-2 - 1e-5) * (1 + math.cos(math.pi * (i + 1) / 40)) / 2 for i in range(40)])
    assert (max(got), got[-1], sorted(cosine, reverse=True)) == (pytest.approx(1e-2), pytest.approx(1e-5), cosine)


def test_linear_is_transformers_schedule_with_warm_up():
    from transformers import get_linear_schedule_with_warmup

    optim = OptimConfig(epochs=6, warmup_epochs=2, lr=4e-4, warmup_lr=0.0, min_lr=0.0, schedule="linear")
    stepped = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=optim.lr)
    scheduler = get_linear_schedule_with_warmup(stepped, num_warmup_steps=10, num_training_steps=30)
    expected = []
    for _ in range(30):  # theirs starts at zero, ours at the first step up
        stepped.step()
        scheduler.step()
        expected.append(stepped.param_groups[0]["lr"])
    assert rates(optim, steps=5) == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_linear_ends_at_the_minimum():
    got = rates(OptimConfig(epochs=4, warmup_epochs=0, lr=1e-2, min_lr=1e-3, schedule="linear"), steps=2)
    assert got == pytest.approx([1e-2 - 9e-3 * (i + 1) / 8 for i in range(8)])


def test_constant_stays_at_the_peak_after_the_warm_up():
    got = rates(OptimConfig(epochs=4, warmup_epochs=1, lr=1e-2, schedule="constant"), steps=3)
    assert got[3:] == [1e-2] * 9
    assert got[2] == pytest.approx(1e-2)


def test_without_a_warm_up_the_first_step_is_near_the_peak():
    assert rates(OptimConfig(epochs=2, warmup_epochs=0, lr=1e-2), steps=50)[0] == pytest.approx(1e-2, rel=1e-3)
