"""What is measured beside the loss, so that the theory can be checked: gradient and Jacobian norms, FP-distance.

All without noise and DropPath. Cost per measurement of n samples: one forward and backward pass for the gradient norm,
one more per Jacobian projection, three forward passes for the distances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pace_tune.methods.adapted import Adapted
from pace_tune.pace.criterion import Criterion, answers_only
from pace_tune.training.data import ResidentData
from pace_tune.training.scoring import predict
from pace_tune.training.streams import stream
from pace_tune.training.taps import squared_norms, taps

if TYPE_CHECKING:
    from pace_tune.study.run_config import MeasureConfig


def measure(
    adapted: Adapted,
    *,
    train: ResidentData,
    val: ResidentData,
    criterion: Criterion,
    config: MeasureConfig,
    initial_heads: Sequence[Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """Return every measure that is switched on, per lane: name -> (K,).

    Args:
        train: Gradient norms are of its mean loss (Thm 1 speaks of the training loss).
        val: Jacobian norms and distances are taken on it, as in the paper's Figures 3 and 4.
        initial_heads: Each lane's head at its start, for one of the distance's references.
    """
    found: dict[str, Tensor] = {}
    if config.grad_norm:
        found["grad_norm"] = grad_norm(adapted, train, criterion=criterion, samples=config.samples)
    if config.jacobian_norm:
        found["jacobian_norm"] = jacobian_norm(adapted, val, samples=config.samples, projections=config.jacobian_projections)
    if config.fp_distance:
        found |= distances(adapted, val, initial_heads=initial_heads, samples=config.samples)
    if config.delta_norm:
        found["delta_norm"] = delta_norm(adapted)
    return found


def grad_norm(adapted: Adapted, data: ResidentData, *, criterion: Criterion, samples: int) -> Tensor:
    """Return ||d L / d(W, b)||_2 per lane, (K,).

    L is the mean task loss of the first `samples` samples; W and b are the effective weights and biases of all linear
    layers in the blocks and of the head, pooled into one vector.
    """
    count = min(samples, len(data))
    with taps(adapted) as found:
        logits: Tensor = adapted(**data.shared_batch(slice(0, count), lanes=adapted.lanes))
    logits_KBC = logits.reshape(adapted.lanes, count, *logits.shape[1:])
    targets_KB = data.targets[:count].expand(adapted.lanes, *data.targets[:count].shape)
    loss_K = criterion.task_loss(logits_KBC, targets_KB)
    return _pooled(squared_norms(found, loss_K.sum(), groups=adapted.lanes)).sqrt()


def jacobian_norm(adapted: Adapted, data: ResidentData, *, samples: int, projections: int) -> Tensor:
    """Return an estimate of the root mean squared Frobenius norm of d f(x) / d(W, b) over samples, (K,).

    E_v ||d(v^T f)/d(W, b)||^2 = ||J||_F^2 for v ~ N(0, I_C); `projections` draws of v per sample, the same in every
    lane and at every measurement, so that runs compare. Weights and biases as in `grad_norm`.
    """
    count = min(samples, len(data))
    with taps(adapted) as found:
        logits: Tensor = adapted(**data.shared_batch(slice(0, count), lanes=adapted.lanes))
    answered = answers_only(logits.reshape(adapted.lanes, count, *logits.shape[1:]), data.targets[:count])
    logits_KBC = answered.flatten(2)
    rng = stream(0, "measure")
    total_K = logits.new_zeros(adapted.lanes)
    for i in range(projections):
        v_BC = torch.randn(logits_KBC.shape[1:], generator=rng).to(logits)
        norms = squared_norms(found, (logits_KBC * v_BC).sum(), groups=adapted.lanes * count, keep_graph=i + 1 < projections)
        total_K = total_K + _pooled(norms).view(adapted.lanes, count).mean(dim=1)
    return (total_K / projections).sqrt()


@torch.no_grad()
def distances(adapted: Adapted, data: ResidentData, *, initial_heads: Sequence[Mapping[str, Tensor]], samples: int) -> dict[str, Tensor]:
    """Return the fine-tuned-to-pretrained distance and its controls, (K,) each.

    ``fp_distance`` is mean ||f(x; theta) - f(x; theta_0)||^2 with the adapters removed and the trained head kept;
    ``fp_distance_initial`` runs the pretrained side under the head's start values; ``fp_distance_zero`` has no head
    there, so it is mean ||f||^2. ``fp_distance_relative`` is the first divided by the last. ``logit_norm`` is mean ||f||.
    """
    count = min(samples, len(data))
    outputs_KNC = predict(adapted, data, limit=count)
    with adapted.context.without_adapters():
        kept_KNC = predict(adapted, data, limit=count)
        now = [adapted.lane_values(lane) for lane in range(adapted.lanes)]
        for lane, (values, head) in enumerate(zip(now, initial_heads, strict=True)):
            adapted.bank.write(lane, {**values, **head})
        initial_KNC = predict(adapted, data, limit=count)
        for lane, values in enumerate(now):
            adapted.bank.write(lane, values)
    zero_K = _mean_square(outputs_KNC)
    kept_K = _mean_square(outputs_KNC - kept_KNC)
    return {
        "fp_distance": kept_K,
        "fp_distance_initial": _mean_square(outputs_KNC - initial_KNC),
        "fp_distance_zero": zero_K,
        "fp_distance_relative": kept_K / zero_K.clamp_min(torch.finfo(zero_K.dtype).tiny),
        "logit_norm": outputs_KNC.flatten(2).norm(dim=-1).mean(dim=1),
    }


@torch.no_grad()
def delta_norm(adapted: Adapted) -> Tensor:
    """Return ||theta - theta_0||_2 over everything a delta changes, head excluded, (K,).

    For linear layers that is (dW, db), not their factors; for other sites the parameters themselves.
    """
    total_K = adapted.bank.values_KP.new_zeros(adapted.lanes)
    for part in adapted.changes():
        total_K = total_K + part.flatten(1).square().sum(dim=1)
    return total_K.sqrt()


def _pooled(norms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(norms.values())).sum(dim=0)


def _mean_square(x_KNC: Tensor) -> Tensor:
    return x_KNC.flatten(2).square().sum(dim=-1).mean(dim=1)
