"""RepAdapter: a linear bottleneck before attention and MLP, foldable into them (Luo et al., 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pace_tune.errors import require
from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.method import Method, Placement, Tensors, xavier_uniform
from pace_tune.methods.sites.feature import AffineDelta
from pace_tune.registry import methods

POST_NORM = "its norms' outputs are the residual stream, and it must change only what the layers after them read"


class RepAdapterDelta(AffineDelta):
    """f(x) = s (B_g (A x + a) + b), B_g block-diagonal: group g of the hidden units makes group g of the channels.

    Args:
        hidden: h, all groups together.
    """

    def __init__(self, width: int, *, hidden: int, groups: int, dropout: float, readers: Sequence[Place]) -> None:
        super().__init__(width, readers=readers)
        self.hidden, self.groups, self.dropout = hidden, groups, dropout

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return A Xavier-uniform, the rest 0."""
        inner, outer = self.hidden // self.groups, self.width // self.groups
        return {
            "down": xavier_uniform((self.hidden, self.width), generator).view(self.groups, inner, self.width),
            "down_bias": torch.zeros(self.groups, inner),
            "up": torch.zeros(self.groups, outer, inner),
            "up_bias": torch.zeros(self.width),
        }

    def mask_width(self, parameters: Tensors) -> int:
        """Return h."""
        return parameters["down_bias"].shape[-2:].numel()

    def lanes(self, x_KTC: Tensor, parameters: Tensors) -> Tensor:
        """Return f(x) of all lanes, two products."""
        lanes, tokens, width = x_KTC.shape
        down_KhC = parameters["down"].flatten(1, 2)
        hidden_KTh = torch.baddbmm(parameters["down_bias"].flatten(1)[:, None], x_KTC, down_KhC.mT)
        if "mask" in parameters:
            hidden_KTh = hidden_KTh * parameters["mask"]
        hidden_KTgi = hidden_KTh.view(lanes, tokens, self.groups, -1)
        out_KTC = torch.einsum("ktgi,kgoi->ktgo", hidden_KTgi, parameters["up"]).reshape(lanes, tokens, width)
        return (out_KTC + parameters["up_bias"][:, None]) * parameters["scale"][:, None, None]

    def affine(self, parameters: Tensors) -> tuple[Tensor, Tensor]:
        """Return (s B A, s (B a + b))."""
        up, scale = parameters["up"], parameters["scale"]
        matrix = torch.einsum("goi,gic->goc", up, parameters["down"]).flatten(0, 1)
        shift = torch.einsum("goi,gi->go", up, parameters["down_bias"]).flatten() + parameters["up_bias"]
        return scale * matrix, scale * shift


@methods.register("rep_adapter")
class RepAdapter(Method):
    """Linear bottlenecks on the outputs of both norms of a block; noise acts there, at the point of insertion."""

    paper: ClassVar[str] = "Luo et al. 2023 (RepAdapter)"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"scale"})
    refused: ClassVar[dict[str, str]] = {"roberta": POST_NORM, "bert": POST_NORM}

    hidden: int = Field(default=8, ge=1, description="Width of the bottleneck.")
    groups: int = Field(default=2, ge=1, description="Groups of the second matrix.")
    scale: float = Field(default=1.0, gt=0, description="s; 0.1 to 10 by task in the published runs.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Of the hidden units in training.")
    where: Literal["block", "attention"] = Field(default="block", description="Before attention and MLP, or before attention only.")

    @model_validator(mode="after")
    def _groups_divide(self) -> RepAdapter:
        require(self.hidden % self.groups == 0, "groups divides hidden", hidden=self.hidden, groups=self.groups)
        return self

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one or two deltas per block."""
        for role in ("norm1", "norm2") if self.where == "block" else ("norm1",):
            for place in layout.require_role(role, method=self.name):
                readers = layout.readers(place)
                width = readers[0].linear.in_features
                delta = RepAdapterDelta(width, hidden=self.hidden, groups=self.groups, dropout=self.dropout, readers=readers)
                yield Placement(place, delta)

    def scalars(self) -> dict[str, float]:
        """Return s."""
        return {"scale": self.scale}
