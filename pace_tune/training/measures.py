"""What is measured beside the loss, so that the theory can be checked: gradient and Jacobian norms, FP-distance.

All without noise and DropPath. Cost per measurement of n samples: one forward and backward pass for the gradient norm, one
forward and a backward pass per projection for the Jacobian norm. The distances take their outputs from the latter and the
pretrained model's from `pretrained`; the training side of the gap takes its from the former.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.sites.head import HeadDelta
from pace_tune.pace.criterion import Criterion, answers_only
from pace_tune.training.data import ResidentData
from pace_tune.training.pretrained import Pretrained
from pace_tune.training.scoring import predict
from pace_tune.training.streams import stream
from pace_tune.training.taps import squared_norms, taps

if TYPE_CHECKING:
    from pace_tune.study.run_config import MeasureConfig


@dataclass(frozen=True)
class Measured:
    """What one measurement of all lanes found.

    Attributes:
        values: Name -> (K,).
        train_logits_KNC: Logits of the training samples that it looked at, where it did and they are not a vocabulary per token.
    """

    values: dict[str, Tensor]
    train_logits_KNC: Tensor | None = None


def measure(
    adapted: Adapted,
    *,
    train: ResidentData,
    val: ResidentData,
    criterion: Criterion,
    config: MeasureConfig,
    initial_heads: Sequence[Mapping[str, Tensor]],
    pretrained: Pretrained | None = None,
) -> Measured:
    """Return every measure that is switched on, per lane.

    Args:
        train: Gradient norms are of its mean loss (Thm 1 speaks of the training loss).
        val: Jacobian norms and distances are taken on it, as in the paper's Figures 3 and 4.
        initial_heads: Each lane's head at its start, for one of the distance's references.
        pretrained: The backbone on `val`; without it the pretrained side of the distances is run anew.
    """
    found: dict[str, Tensor] = {}
    samples = config.samples_of(len(train))
    train_logits_KNC = outputs_KNC = None
    with _parameters_at_rest(adapted):
        if config.grad_norm:
            found["grad_norm"], logits = grad_norm(adapted, train, criterion=criterion, samples=samples)
            train_logits_KNC = logits if logits.ndim < 4 else None
        if config.jacobian_norm:
            projections = config.jacobian_projections
            found["jacobian_norm"], outputs_KNC = jacobian_norm(adapted, val, samples=samples, projections=projections)
    if config.fp_distance:
        if outputs_KNC is None:
            outputs_KNC = predict(adapted, val, limit=samples)
        found |= distances(adapted, val, outputs_KNC=outputs_KNC, initial_heads=initial_heads, pretrained=pretrained)
    if config.delta_norm:
        found["delta_norm"] = delta_norm(adapted)
    return Measured(found, train_logits_KNC)


def grad_norm(adapted: Adapted, data: ResidentData, *, criterion: Criterion, samples: int) -> tuple[Tensor, Tensor]:
    """Return ||d L / d(W, b)||_2 per lane, (K,), and the logits_KNC that it was taken at.

    L is the mean task loss of the first `samples` samples; W and b are the effective weights and biases of all linear
    layers in the blocks and of the head, pooled into one vector.
    """
    count = min(samples, len(data))
    with taps(adapted) as found:
        logits: Tensor = adapted(**data.shared_batch(slice(0, count), lanes=adapted.lanes))
    logits_KBC = logits.reshape(adapted.lanes, count, *logits.shape[1:])
    targets_KB = data.targets[:count].expand(adapted.lanes, *data.targets[:count].shape)
    loss_K = criterion.task_loss(logits_KBC, targets_KB)
    norm_K = _pooled(squared_norms(found, loss_K.sum(), groups=adapted.lanes)).sqrt()
    return norm_K, logits_KBC.detach()


def jacobian_norm(adapted: Adapted, data: ResidentData, *, samples: int, projections: int) -> tuple[Tensor, Tensor]:
    """Return an estimate of the root mean squared Frobenius norm of d f(x) / d(W, b) over samples, (K,), and f(x)_KNC.

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
    return (total_K / projections).sqrt(), answered.detach()


@torch.no_grad()
def distances(
    adapted: Adapted,
    data: ResidentData,
    *,
    outputs_KNC: Tensor,
    initial_heads: Sequence[Mapping[str, Tensor]],
    pretrained: Pretrained | None = None,
) -> dict[str, Tensor]:
    """Return the fine-tuned-to-pretrained distance and its controls, (K,) each.

    ``fp_distance`` is mean ||f(x; theta) - f(x; theta_0)||^2 with the adapters removed and the trained head kept;
    ``fp_distance_initial`` runs the pretrained side under the head's start values; ``fp_distance_zero`` has no head
    there, so it is mean ||f||^2. ``fp_distance_relative`` is the first divided by the last. ``logit_norm`` is mean ||f||.

    Args:
        outputs_KNC: f(x; theta) of the first samples of `data`.
    """
    outputs_KNC = outputs_KNC.float() if outputs_KNC.dtype in (torch.bfloat16, torch.float16) else outputs_KNC
    count = outputs_KNC.shape[1]
    features_NI = pretrained.features(count) if pretrained is not None else None
    if features_NI is None:
        kept_KNC, initial_KNC = _rerun(adapted, data, count=count, initial_heads=initial_heads)
    else:
        kept_KNC, initial_KNC = _heads_alone(adapted, features_NI, initial_heads=initial_heads)
    zero_K = _mean_square(outputs_KNC)
    kept_K = _mean_square(outputs_KNC - kept_KNC)
    return {
        "fp_distance": kept_K,
        "fp_distance_initial": _mean_square(outputs_KNC - initial_KNC),
        "fp_distance_zero": zero_K,
        "fp_distance_relative": kept_K / zero_K.clamp_min(torch.finfo(zero_K.dtype).tiny),
        "logit_norm": outputs_KNC.flatten(2).norm(dim=-1).mean(dim=1),
    }


def _rerun(adapted: Adapted, data: ResidentData, *, count: int, initial_heads: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the pretrained model's outputs under each lane's present head, and under its first one."""
    with adapted.context.without_adapters():
        kept_KNC = predict(adapted, data, limit=count)
        now = [adapted.lane_values(lane) for lane in range(adapted.lanes)]
        for lane, (values, head) in enumerate(zip(now, initial_heads, strict=True)):
            adapted.bank.write(lane, {**values, **head})
        initial_KNC = predict(adapted, data, limit=count)
        for lane, values in enumerate(now):
            adapted.bank.write(lane, values)
    return kept_KNC, initial_KNC


def _heads_alone(adapted: Adapted, features_NI: Tensor, *, initial_heads: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the same from the features that the heads are given, which no lane changes."""
    site = adapted.sites[adapted.head_name]
    delta = cast(HeadDelta, site.delta)
    first = {key: torch.stack([head[f"{site.name}/{key}"] for head in initial_heads]).to(value) for key, value in site.values.items()}
    x_KNI = features_NI.to(site.values["weight"].dtype).expand(adapted.lanes, *features_NI.shape)
    return delta.lanes(x_KNI, site.values), delta.lanes(x_KNI, first)


@torch.no_grad()
def delta_norm(adapted: Adapted) -> Tensor:
    """Return ||theta - theta_0||_2 over everything a delta changes, head excluded, (K,).

    For linear layers that is (dW, db), not their factors; for other sites the parameters themselves.
    """
    total_K = adapted.bank.values_KP.new_zeros(adapted.lanes)
    for part in adapted.changes():
        total_K = total_K + part.flatten(1).square().sum(dim=1)
    return total_K.sqrt()


@contextmanager
def _parameters_at_rest(adapted: Adapted) -> Iterator[None]:
    """Take the lanes' parameters out of the graph: what is differentiated is the traffic of `taps`."""
    parameters = list(adapted.bank.parameters.values())
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_()


def _pooled(norms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(norms.values())).sum(dim=0)


def _mean_square(x_KNC: Tensor) -> Tensor:
    return x_KNC.flatten(2).square().sum(dim=-1).mean(dim=1)
