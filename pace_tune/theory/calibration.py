"""Whether probabilities can be believed: calibration error, and the temperature that mends it (Guo et al., ICML 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def calibration_error(logits_NC: Tensor, targets_N: Tensor, *, bins: int = 15) -> float:
    """Return the expected calibration error: mean over samples of |confidence - accuracy| of their bin of confidence."""
    confidence_N, predicted_N = logits_NC.softmax(dim=-1).max(dim=-1)
    right_N = (predicted_N == targets_N).to(confidence_N)
    bin_N = (confidence_N * bins).long().clamp(max=bins - 1)
    gap = confidence_N.new_zeros(bins).index_add(0, bin_N, confidence_N - right_N)
    return float(gap.abs().sum() / len(targets_N))


def fitted_temperature(logits_NC: Tensor, targets_N: Tensor) -> float:
    """Return T in [0.02, 50] for which the cross-entropy of logits / T is least; below 1 the logits are too small."""
    # The loss is convex in 1 / T, so a search over ever finer grids of log T cannot miss the minimum.
    low, high = -3.9, 3.9
    for _ in range(6):
        grid = torch.linspace(low, high, 21, dtype=torch.float64)
        losses = torch.stack([F.cross_entropy(logits_NC.double() / t.exp(), targets_N) for t in grid])
        best, step = float(grid[int(losses.argmin())]), (high - low) / 20
        low, high = best - step, best + step
    return float(torch.tensor(best).exp())


def tempered_loss(logits_NC: Tensor, targets_N: Tensor) -> float:
    """Return the mean cross-entropy at the temperature that fits the other half of the samples.

    Each half is scored at the other's temperature, so that no sample is judged by a temperature that saw it.
    """
    halves = (slice(None, None, 2), slice(1, None, 2))
    losses = []
    for own, other in (halves, halves[::-1]):
        temperature = fitted_temperature(logits_NC[other], targets_N[other])
        losses.append(F.cross_entropy(logits_NC[own] / temperature, targets_N[own], reduction="sum"))
    return float(sum(losses)) / len(targets_N)
