"""What a method is: which places of a model get a delta, and how that delta is made of parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F

from pace_tune.component import Component
from pace_tune.errors import UnsupportedError
from pace_tune.methods.layout import Layout, Place

Tensors = Mapping[str, Tensor]
Changes = Literal["linear", "head", "peft", "other"]


class Delta:
    """How one site's delta is made of its parameters. Written for one lane; knows nothing of noise.

    Attributes:
        mergeable: Whether it can be folded into a plain module.
        why_not: The sentence where it cannot.
        dropout: Share of its hidden units that a training step drops; the mask comes as the parameter ``mask``.
        shared: Own parameter -> name of the parameter that all deltas with the same name hold in common.
        mixes_tokens: Whether what it adds to one token depends on others.
    """

    mergeable: bool = True
    why_not: str = "its delta is not an affine map"
    dropout: float = 0.0
    shared: Mapping[str, str] = {}
    mixes_tokens: bool = False

    @abstractmethod
    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the start values of one lane's parameters, in their own (unpadded) shapes."""

    def mask_width(self, parameters: Tensors) -> int:
        """Return how many units a dropout mask covers."""
        raise NotImplementedError


class LinearDelta(Delta):
    """A delta of a linear layer: W = W0 + dW, b = b0 + db.

    Args:
        base: The frozen layer (weight W0_OI, bias b0_O or None).

    Attributes:
        dense: True where dW_OI is materialised anyway. Without noise the site then runs one product with W0 + dW.
    """

    dense: bool = False

    def __init__(self, base: nn.Linear) -> None:
        self.weight, self.bias = base.weight, base.bias
        self.out_features, self.in_features = base.weight.shape

    @abstractmethod
    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (dW_OI, db_O) of one lane; None for a part that does not change."""

    def forward(self, x_TI: Tensor, parameters: Tensors) -> Tensor:
        """Return delta(x) of one lane, (T, O) or (1, O) where it does not depend on x."""
        weight, bias = self.weights(parameters)
        if weight is None:
            if bias is None:
                return x_TI.new_zeros(1, self.out_features)
            return bias[None]
        return F.linear(x_TI, weight, bias)

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return delta(x) of all lanes, (K, T, O) or (K, 1, O); parameters carry a leading K.

        The lifted form below is right for every delta and the oracle of hand-written ones.
        """
        return vmap(self.forward)(x_KTI, dict(parameters))

    @property
    def shifts(self) -> bool:
        """Whether the bias changes."""
        return self._parts[1]

    def weights_lanes(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (dW_KOI, db_KO) of all lanes."""
        weight, bias = self._parts
        lifted = vmap(lambda p: tuple(t for t in self.weights(p) if t is not None))(dict(parameters))
        parts = iter(lifted)
        return (next(parts) if weight else None), (next(parts) if bias else None)

    def factors(self, parameters: Tensors) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Return (A_KrI, B_KOr, db_KO) where delta(x) = B A x + db and B A need not be formed, else None."""
        return None

    @cached_property
    def _parts(self) -> tuple[bool, bool]:
        start = self.init(torch.Generator().manual_seed(0))
        weight, bias = self.weights({key: value.to(self.weight) for key, value in start.items()})
        return weight is not None, bias is not None


@dataclass(frozen=True)
class Placement:
    """A delta at a place.

    Attributes:
        site: The kind of site, where the kind of delta does not say it.
    """

    place: Place
    delta: Delta
    site: Callable[..., Any] | None = None


class Method(Component):
    """A parameter-efficient fine-tuning method.

    Class attributes:
        paper: Where it is published.
        identity_at_start: Whether the adapted model starts as the pretrained one.
        lane_fields: Fields that may differ between the lanes of one population, because zero padding or a per-lane
            scalar covers the difference. All other fields must be equal.
        runs_in_lanes: False where it must run alone.
        refused: Architecture families that it is not defined on -> why, as the end of a sentence.
        changes: What its deltas change: ``linear`` layers alone, the ``head`` alone, ``peft`` where peft's own layers do, else ``other``.
    """

    paper: ClassVar[str] = ""
    identity_at_start: ClassVar[bool] = True
    lane_fields: ClassVar[frozenset[str]] = frozenset()
    runs_in_lanes: ClassVar[bool] = True
    refused: ClassVar[Mapping[str, str]] = {}
    changes: ClassVar[Changes] = "other"

    def check(self, layout: Layout) -> None:
        """Raise `UnsupportedError` where the method is not defined on a model's family."""
        if layout.family in self.refused:
            reason = self.refused[layout.family]
            raise UnsupportedError(f"method {self.name!r} is not defined on models of family {layout.family!r}: {reason}.")

    @abstractmethod
    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return the deltas of this method on a model.

        Raises:
            UnsupportedError: The method is not defined for this model; the sentence says why.
        """

    def scalars(self) -> dict[str, float]:
        """Return numbers that deltas read beside their parameters, one a lane, e.g. LoRA's alpha / rank."""
        return {}

    @property
    def needs_whole_backbone(self) -> str:
        """Why each process must hold all frozen weights, as the end of a sentence; empty where they may be spread over several."""
        return ""

    @property
    def trains(self) -> bool:
        """Whether there is anything to train; False for what only has to be scored."""
        return True

    def start(self, layout: Layout, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the start values of a lane, head included, from fresh ones."""
        return fresh

    def path_numbers(self, layout: Layout) -> int:
        """Return how many uniform numbers make one path through a supernet; 0 where there is only one path."""
        return 0

    def paths(self, layout: Layout, numbers_KN: Tensor) -> dict[str, Tensor]:
        """Return site -> which part of its delta is on, leading axis K, from uniform numbers in [0, 1)."""
        return {}


class LinearMethod(Method):
    """A method that gives every linear layer of the transformer blocks the same kind of delta."""

    changes: ClassVar[Changes] = "linear"

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per linear layer in the blocks (and Swin's patch merging), head excluded."""
        for place in layout.linears():
            yield Placement(place, self.delta(place.linear))

    @abstractmethod
    def delta(self, base: nn.Linear) -> LinearDelta:
        """Return the delta of one linear layer."""


def xavier_uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a matrix from U(-a, a) with a = sqrt(6 / (rows + columns))."""
    bound = (6.0 / sum(shape)) ** 0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def kaiming_uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a matrix from U(-a, a) with a = 1 / sqrt(columns): nn.Linear's default (Kaiming with a = sqrt 5)."""
    bound = shape[1] ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
