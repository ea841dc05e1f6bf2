"""What an objective is: the loss of every lane for one batch, from as many noisy forward passes as it needs."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pace_tune.component import Component
from pace_tune.errors import require
from pace_tune.methods.adapted import Adapted
from pace_tune.methods.carried import inner_model
from pace_tune.methods.context import Draw, lane_rows, repeat_views
from pace_tune.pace.criterion import Classification, Criterion
from pace_tune.pace.draws import NoisePlan, Part, draw_step, noise_plan
from pace_tune.pace.levels import Shape

Inputs = Mapping[str, Tensor]


@dataclass
class Step:
    """One batch of every lane, and what is needed to take a step on it.

    Attributes:
        inputs: Keyword arguments of the model, (K*B, ...) each, lane-major.
        targets_KB: Targets.
        strengths: Per-lane numbers of the objective (sigma, lambda_, ...), (K,) each.
        generators: One per lane.
        index_KB: Which training samples these are; needed by objectives with memory.
        count_K: Steps each lane took before this one.
        memory: What the objective keeps between steps, leading axis K; changed in place.
        part: Which samples of a larger batch these are, where a step is taken in micro-batches: noise and masks are those
            that the whole batch would have had.
    """

    adapted: Adapted
    inputs: Inputs
    targets_KB: Tensor
    strengths: Mapping[str, Tensor]
    generators: Sequence[torch.Generator]
    plan: NoisePlan | None = None
    criterion: Criterion = field(default_factory=Classification)
    index_KB: Tensor | None = None
    count_K: Tensor | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)
    part: Part | None = None

    @property
    def samples(self) -> int:
        """B."""
        return self.targets_KB.shape[1]

    def draw(self, *, views: int = 1, renormalise: bool = True, paired_K: Tensor | None = None) -> Draw:
        """Draw this step's noise and masks."""
        draw = draw_step(
            self.adapted,
            generators=self.generators,
            samples=self.part.batch_size if self.part else self.samples,
            views=views,
            plan=self.plan,
            sigma_K=self.strengths.get("sigma"),
            renormalise=renormalise,
            paired_K=paired_K,
        )
        return self.part.of(draw, views=views) if self.part else draw

    def forward(self, draw: Draw | None, *, views: int = 1, inputs: Inputs | None = None) -> Tensor:
        """Return logits_KVB... of `views` noisy passes, all in one batch."""
        lanes, context = self.adapted.lanes, self.adapted.context
        inputs = self.inputs if inputs is None else inputs
        split = None
        rows = self.samples * views
        if views > 1 and self.adapted.splits_at_blocks:
            first = self.plan.first_level if self.plan is not None else 0
            split, rows = (min(first, self.adapted.layout.depth - 1), views), self.samples
        elif views > 1:
            inputs = {key: repeat_views(value, lanes=lanes, views=views) for key, value in inputs.items()}
        with context.step(rows=rows, draw=draw, split=split):
            logits = self.adapted(**inputs)
        logits_KVBC: Tensor = logits.reshape(lanes, views, self.samples, *logits.shape[1:])
        return logits_KVBC

    def task_loss(self, logits_KBC: Tensor) -> Tensor:
        """Return the task's loss, (K,)."""
        return self.criterion.task_loss(logits_KBC, self.targets_KB)

    def distance(self, first_KBC: Tensor, second_KBC: Tensor) -> Tensor:
        """Return the squared distance of two outputs, (K,)."""
        return self.criterion.distance(first_KBC, second_KBC, self.targets_KB)


@dataclass(frozen=True)
class Terms:
    """The losses of one step: (K,) each in a population, scalars from a call by hand.

    Attributes:
        total: What to differentiate.
        task_loss: The task's own loss.
        consistency: The regulariser before lambda; zero where there is none.
        logits: Outputs of the first view, (K, B, C) or (B, C), detached; `pace_lazy` gives those of the first half batch.
    """

    total: Tensor
    task_loss: Tensor
    consistency: Tensor
    logits: Tensor


class Objective(Component):
    """A training objective. Calling it computes the losses of one batch of an adapted model.

    Class attributes:
        lane_fields: Fields that may differ between the lanes of a population; they reach `terms` as vectors.
        renormalise_drop_path: Whether DropPath masks are divided by their batch mean.
        refused: What it does not go with -> why, as the end of a sentence: a task's target (``token``), or what a method changes
            (see `Method.changes`).
        sums_over_parts: Whether the gradients of a batch's parts add up to that of the batch.
        steady: Whether every step runs the same operations, and never asks for a number on the host, so that it can be recorded.
    """

    sums_over_parts: ClassVar[bool] = True
    steady: ClassVar[bool] = True
    lane_fields: ClassVar[frozenset[str]] = frozenset()
    renormalise_drop_path: ClassVar[bool] = True
    refused: ClassVar[Mapping[str, str]] = {}
    paper: ClassVar[str] = ""

    @abstractmethod
    def terms(self, step: Step) -> Terms:
        """Return the losses of every lane."""

    def plan(self, adapted: Adapted) -> NoisePlan | None:
        """Return where noise goes, or None for an objective without noise."""
        return None

    def memory(self, *, samples: int, classes: int, sites: int = 0) -> dict[str, Tensor]:
        """Return what this objective remembers between steps, at its start, of one lane: per sample, or per site."""
        return {}

    def strengths(self, lanes: Sequence[Objective], *, like: Tensor) -> dict[str, Tensor]:
        """Stack the lane fields of several objectives of this kind into vectors."""
        return {key: like.new_tensor([getattr(lane, key) for lane in lanes]) for key in sorted(self.lane_fields)}

    def __call__(
        self,
        adapted: Adapted,
        inputs: Tensor | Inputs,
        targets: Tensor,
        *,
        index: Tensor | None = None,
        step: int = 0,
        memory: dict[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        criterion: Criterion | None = None,
    ) -> Terms:
        """Return the losses of one batch of an adapted model with one lane.

        Args:
            inputs: What the model takes, rows first; a mapping goes in as keyword arguments.
            targets: (B,).
            index: (B,) numbers of the samples; `pace_fast` needs them.
            step: Steps taken so far; `pace_lazy` needs it.
            memory: From `self.memory(...)`, kept by the caller; changed in place.
            generator: Source of the noise; default torch's global one.

        Example:
            ``objective(adapted, images, labels).total.backward()``
        """
        require(adapted.lanes == 1, "adapted.lanes == 1", lanes=adapted.lanes)
        like = adapted.bank.values_KP
        inputs = {_first_argument(adapted): inputs} if isinstance(inputs, Tensor) else inputs
        batch = Step(
            adapted,
            inputs,
            targets[None],
            self.strengths([self], like=like),
            [generator or _global_generator(like.device)],
            plan=self.plan(adapted),
            criterion=criterion or Classification(),
            index_KB=None if index is None else index[None],
            count_K=torch.tensor([step], device=like.device),
            memory={key: value[None] for key, value in (memory or {}).items()},
        )
        terms = self.terms(batch)
        return Terms(terms.total[0], terms.task_loss[0], terms.consistency[0], terms.logits[0])


class NoisyObjective(Objective):
    """An objective whose passes multiply every delta by noise."""

    lane_fields: ClassVar[frozenset[str]] = frozenset({"sigma"})

    sigma: float = Field(default=1.0, ge=0, description="Standard deviation of the multiplicative noise in the first noisy block.")
    head_noise: bool = Field(default=True, description="Multiply the logits too; the released code does.")
    quiet_blocks: int | None = Field(default=None, ge=0, description="Blocks without noise at the start; null: 1 on ViT, else 0.")
    levels: Shape = Field(default="decreasing", description="How sigma changes with depth.")

    def plan(self, adapted: Adapted) -> NoisePlan:
        """Return the paper's plan with this objective's options."""
        return noise_plan(adapted, quiet_blocks=self.quiet_blocks, shape=self.levels, head=self.head_noise)


class ConsistencyObjective(NoisyObjective):
    """A noisy objective with a regulariser of weight lambda."""

    lane_fields: ClassVar[frozenset[str]] = frozenset({"sigma", "lambda_"})

    lambda_: float = Field(default=0.5, ge=0, alias="lambda", description="Weight of the consistency term, which sums over logits.")

    def combine(self, step: Step, task_loss_K: Tensor, consistency_K: Tensor, logits_KBC: Tensor) -> Terms:
        """Return total = task loss + lambda * consistency."""
        total_K = task_loss_K + step.strengths["lambda_"] * consistency_K
        return Terms(total_K, task_loss_K.detach(), consistency_K.detach(), logits_KBC.detach())


def plain_terms(step: Step, logits_KBC: Tensor) -> Terms:
    """Return the task's loss alone."""
    loss_K = step.task_loss(logits_KBC)
    return Terms(loss_K, loss_K.detach(), torch.zeros_like(loss_K), logits_KBC.detach())


def paired_inputs(inputs: Inputs, paired_K: Tensor) -> dict[str, Tensor]:
    """Return the inputs with the second half of each paired lane's batch replaced by its first half."""
    out = {}
    for key, value in inputs.items():
        rows = lane_rows(value, len(paired_K))
        half = rows.shape[1] // 2
        paired = torch.cat([rows[:, :half], rows[:, :half], rows[:, 2 * half :]], dim=1)
        choose = paired_K.view(-1, *[1] * (rows.ndim - 1))
        out[key] = torch.where(choose, paired, rows).flatten(0, 1)
    return out


def _first_argument(adapted: Adapted) -> str:
    # A peft model passes on whatever it gets; the name is that of the model inside.
    return next(iter(inspect.signature(inner_model(adapted.model).forward).parameters))


def _global_generator(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
