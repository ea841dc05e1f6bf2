"""Finished runs as models again, and what the theorems say about each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from pace_tune.benchmarks.task import Split, Task
from pace_tune.errors import UnsupportedError
from pace_tune.methods.adapted import Adapted, share_frozen
from pace_tune.methods.method import Method
from pace_tune.models.backbone import Backbone
from pace_tune.pace.criterion import CRITERIA
from pace_tune.pace.objective import NoisyObjective
from pace_tune.study.run_config import RunConfig
from pace_tune.theory.calibration import calibration_error, tempered_loss
from pace_tune.theory.distance import Alignment, alignment, distance_bound_by_d_pace
from pace_tune.theory.estimate import Estimate
from pace_tune.theory.expansion import d_pace, first_order, jacobian
from pace_tune.theory.noisy import ChannelNoise, Inputs, Noise
from pace_tune.theory.runs import CHECKPOINT, Run
from pace_tune.theory.sharpness import Sharpness, WeightLoss, neighbourhood_max, sharpness
from pace_tune.training.data import ResidentData
from pace_tune.training.lane_state import LaneState
from pace_tune.training.scoring import predict

SAMPLES, PAIRS = 16, 16
SCALES = (1.0, 0.3, 0.1)
"""t of theta_0 + t * dtheta."""
LARGEST_JACOBIAN = 20_000_000
"""Entries of a_BCD; fewer samples are looked at where a model has many outputs."""
RADIUS = 0.05


@dataclass(frozen=True)
class Opened:
    """A run's model with one lane, and its data."""

    run: RunConfig
    adapted: Adapted
    train: ResidentData
    val: ResidentData


class Opener:
    """Opens runs; backbone and data are read once for all runs that share them."""

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._models: dict[str, nn.Module] = {}
        self._data: dict[str, ResidentData] = {}

    def open(self, run: Run) -> Opened:
        """Return a finished run with the weights of its last epoch."""
        state, config = LaneState.load(run.folder / CHECKPOINT)
        typed = RunConfig.model_validate(config)
        method = cast(Method, typed.method)
        adapted = Adapted(share_frozen(self._model(typed)), [method], seeds=[0])
        adapted.set_lanes([method], [state.values])
        adapted.eval()
        return Opened(typed, adapted, self._split(typed, typed.data.train_on), self._split(typed, typed.data.selection))

    def _model(self, run: RunConfig) -> nn.Module:
        task, backbone = cast(Task, run.task), cast(Backbone, run.backbone)
        key = _key(task, backbone)
        if key not in self._models:
            self._models[key] = backbone.build(num_classes=task.num_classes).to(self.device).eval()
        return self._models[key]

    def _split(self, run: RunConfig, split: Split) -> ResidentData:
        task, backbone = cast(Task, run.task), cast(Backbone, run.backbone)
        key = _key(task, backbone, str(run.data.root), split)
        if key not in self._data:
            examples = task.load(split, spec=backbone.spec, root=run.data.root, cache=run.data.cache)
            self._data[key] = ResidentData.of(examples, spec=backbone.spec, device=self.device)
        return self._data[key]


@dataclass(frozen=True)
class Expansion:
    """Theorem 2 at one size of the change.

    Attributes:
        scale: t.
        d_pace: By Monte Carlo.
        first_order: 2 sum sigma^2 a^2.
        parts: Proposition 1's.
    """

    scale: float
    d_pace: Estimate
    first_order: float
    parts: Alignment

    @property
    def ratio(self) -> Estimate:
        """d_pace over its first order."""
        return self.d_pace.per(self.first_order)


@dataclass(frozen=True)
class Reading:
    """What one checkpoint shows, on the first samples of its validation split.

    Attributes:
        sigma: Of the noise looked at: the run's own, or 1.
        expansions: By scale, 1 first.
        bound: Right-hand side of Theorem 3 by d_pace at scale 1.
        calibration_error: On the whole validation split; NaN where targets are no classes, or the run was trained on that split.
        tempered_loss: Validation loss at fitted temperatures; NaN there too.
    """

    run: Run
    sigma: float
    expansions: tuple[Expansion, ...]
    bound: float
    calibration_error: float
    tempered_loss: float


def read_checkpoint(opened: Opened, *, scales: Sequence[float] = SCALES) -> tuple[float, tuple[Expansion, ...], float, float, float]:
    """Measure one run: what a `Reading` holds beside it, in its order.

    Raises:
        UnsupportedError: The model writes tokens: its outputs are too many to be taken one by one.
    """
    if cast(Task, opened.run.task).target == "token":
        raise UnsupportedError(f"{opened.run.task.name}: the expansions need outputs that can be counted, not a vocabulary per token.")
    objective = opened.run.objective
    noisy = isinstance(objective, NoisyObjective) and objective.sigma > 0
    noise = Noise(objective.sigma, objective.quiet_blocks, objective.levels) if noisy else Noise()
    inputs = _inputs(opened.val, _affordable(opened.adapted, opened.val))
    expansions = tuple(_expansion(opened.adapted, inputs, noise=noise, scale=scale) for scale in scales)
    factor = distance_bound_by_d_pace(ChannelNoise(opened.adapted, inputs, noise=noise).sigma_D)
    return (noise.sigma, expansions, factor * expansions[0].d_pace.value, *_calibration(opened))


def read_sharpness(opened: Opened, *, samples: int = 64, iterations: int = 20) -> tuple[Sharpness, float]:
    """Return a run's sharpness on its training loss, and the loss's maximum found within `RADIUS`."""
    count = min(samples, len(opened.train))
    criterion = CRITERIA[cast(Task, opened.run.task).target]
    loss = WeightLoss(opened.adapted, _inputs(opened.train, count), opened.train.targets[:count], criterion=criterion)
    start = loss.start()
    found = sharpness(loss, start, generator=_rng(start), iterations=iterations)
    return found, neighbourhood_max(loss, start, radius=RADIUS, steps=10)


def _expansion(adapted: Adapted, inputs: Inputs, *, noise: Noise, scale: float) -> Expansion:
    f = ChannelNoise(adapted, inputs, noise=noise, scale=scale)
    slopes_BCD = jacobian(f)
    found = d_pace(f, pairs=PAIRS, generator=_rng(slopes_BCD), jacobian_BCD=slopes_BCD)
    return Expansion(scale, found, first_order(f, slopes_BCD), alignment(f, slopes_BCD))


def _calibration(opened: Opened) -> tuple[float, float]:
    seen = opened.run.data.selection in opened.run.data.train_on.split("+")
    if cast(Task, opened.run.task).target != "class" or seen:
        return math.nan, math.nan
    logits_NC, targets_N = predict(opened.adapted, opened.val)[0], opened.val.targets
    return calibration_error(logits_NC, targets_N), tempered_loss(logits_NC, targets_N)


def _affordable(adapted: Adapted, data: ResidentData) -> int:
    channels = sum(site.channels for site in adapted.sites.values() if site.noisy)
    outputs = adapted.sites[adapted.head_name].channels if adapted.head_name else 1
    return max(1, min(SAMPLES, len(data), math.floor(LARGEST_JACOBIAN / (channels * outputs))))


def _inputs(data: ResidentData, count: int) -> dict[str, Tensor]:
    return data.shared_batch(slice(0, count), lanes=1)


def _rng(like: Tensor) -> torch.Generator:
    return torch.Generator(device=like.device).manual_seed(0)


def _key(*parts: Any) -> str:
    return json.dumps([part if isinstance(part, str) else part.model_dump(mode="json") | {"name": part.name} for part in parts])
