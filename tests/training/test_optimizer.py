"""AdamW over a bank is torch's AdamW, lane by lane."""

import pytest
import torch
from torch import nn

from pace_tune.methods.bank import ParameterBank
from pace_tune.training.optimizer import LaneAdamW, Rates

SHAPES = {"site/down": (4, 3), "site/bias": (4,), "head/weight": (2, 4)}
WEIGHT_DECAY, BETA1, BETA2, CLIP = (0.0, 0.1, 1e-3), (0.9, 0.8, 0.0), (0.999, 0.99, 0.5), (float("inf"), 0.5, float("inf"))
LRS = ((1e-2, 1e-3, 1e-1), (5e-3, 0.0, 1e-1), (1e-4, 2e-3, 1e-2), (1e-2, 1e-2, 1e-2))
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


def column(values, dtype):
    return torch.tensor(values, dtype=dtype)[:, None]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_every_lane_takes_torchs_steps(dtype):
    rng = torch.Generator().manual_seed(0)
    bank = ParameterBank(SHAPES, lanes=3, dtype=dtype)
    bank.values_KP.copy_(torch.randn(bank.values_KP.shape, generator=rng))
    optimizer = LaneAdamW(bank, Rates(*(column(values, dtype) for values in (WEIGHT_DECAY, BETA1, BETA2, CLIP))))
    lanes = [[nn.Parameter(bank.parameters[key][lane].detach().clone()) for key in SHAPES] for lane in range(3)]
    theirs = [
        torch.optim.AdamW(parameters, lr=1.0, betas=(BETA1[k], BETA2[k]), weight_decay=WEIGHT_DECAY[k])
        for k, parameters in enumerate(lanes)
    ]
    for lr_K in LRS:
        bank.grads_KP.copy_(torch.randn(bank.grads_KP.shape, generator=rng))
        for k, (parameters, optim) in enumerate(zip(lanes, theirs, strict=True)):
            for parameter, key in zip(parameters, SHAPES, strict=True):
                parameter.grad = bank.parameters[key].grad[k].clone()
            if CLIP[k] < float("inf"):
                nn.utils.clip_grad_norm_(parameters, CLIP[k])
            optim.param_groups[0]["lr"] = lr_K[k]
            optim.step()
        optimizer.step(torch.tensor(lr_K, dtype=torch.float64))
        for k, parameters in enumerate(lanes):
            for parameter, key in zip(parameters, SHAPES, strict=True):
                torch.testing.assert_close(bank.parameters[key][k], parameter, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_lanes_that_joined_at_different_times_correct_their_own_bias():
    bank = ParameterBank({"w": (1,)}, lanes=2)
    optimizer = LaneAdamW(bank, Rates(*(column((value, value), torch.float32) for value in (0.0, 0.9, 0.999, float("inf")))))
    optimizer.count_K[1] = 1000
    bank.grads_KP.fill_(1.0)
    optimizer.step(torch.tensor([0.1, 0.1], dtype=torch.float64))
    # The first step of Adam is lr * sign(g); moments of zero after a thousand steps are not corrected any more.
    assert bank.values_KP[0].item() == pytest.approx(-0.1)
    assert bank.values_KP[1].item() == pytest.approx(-0.1 * 0.1 / (0.001**0.5), rel=0.3)
