"""ARC: bottlenecks whose projections all layers share, up the transpose of down (Dong et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.method import Method, Placement, Tensors, xavier_uniform
from pace_tune.methods.rep_adapter import POST_NORM
from pace_tune.methods.sites.feature import AffineDelta
from pace_tune.registry import methods


class ArcDelta(AffineDelta):
    """f(x) = (x W_d * c) W_d^T + b with c and b of its own and W_d shared.

    Args:
        group: Which W_d: the layers of a group have the same.
        zero: Whether c starts at 0.
    """

    def __init__(self, width: int, *, rank: int, group: str, zero: bool, dropout: float, readers: Sequence[Place]) -> None:
        super().__init__(width, readers=readers)
        self.rank, self.zero, self.dropout = rank, zero, dropout
        self.shared = {"down": f"shared/arc_{group}_{width}"}

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return W_d Xavier-uniform, b = 0, c = 0 or Xavier-uniform."""
        bound = 0.0 if self.zero else (6 / (1 + self.rank)) ** 0.5
        return {
            "down": xavier_uniform((self.width, self.rank), generator),
            "recalibration": torch.empty(self.rank).uniform_(-bound, bound, generator=generator),
            "bias": torch.zeros(self.width),
        }

    def mask_width(self, parameters: Tensors) -> int:
        """Return r."""
        return parameters["recalibration"].shape[-1]

    def lanes(self, x_KTC: Tensor, parameters: Tensors) -> Tensor:
        """Return f(x) of all lanes, two products."""
        hidden_KTr = torch.bmm(x_KTC, parameters["down"]) * parameters["recalibration"][:, None]
        if "mask" in parameters:
            hidden_KTr = hidden_KTr * parameters["mask"]
        return torch.baddbmm(parameters["bias"][:, None], hidden_KTr, parameters["down"].mT)

    def affine(self, parameters: Tensors) -> tuple[Tensor, Tensor]:
        """Return (W_d diag(c) W_d^T, b)."""
        return (parameters["down"] * parameters["recalibration"]) @ parameters["down"].mT, parameters["bias"]


@methods.register("arc")
class Arc(Method):
    """Shared symmetric bottlenecks on the outputs of both norms of a block, recalibrated in every layer."""

    paper: ClassVar[str] = "Dong et al. 2023 (ARC)"
    identity_at_start: ClassVar[bool] = False
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rank"})
    refused: ClassVar[dict[str, str]] = {"roberta": POST_NORM, "bert": POST_NORM}

    rank: int = Field(default=50, ge=1, description="Width of the shared bottleneck.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Of the hidden units in training.")
    where: Literal["block", "attention"] = Field(default="block", description="Before attention and MLP, or before attention only.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one or two deltas per block; those of a role, and of a width, share their projection."""
        for role in ("norm1", "norm2") if self.where == "block" else ("norm1",):
            for place in layout.require_role(role, method=self.name):
                readers = layout.readers(place)
                delta = ArcDelta(
                    readers[0].linear.in_features,
                    rank=self.rank,
                    group=role,
                    zero=role == "norm1",
                    dropout=self.dropout,
                    readers=readers,
                )
                yield Placement(place, delta)
