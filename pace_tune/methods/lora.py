"""LoRA: dW = alpha / r * B A on chosen linear layers (Hu et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Changes, LinearDelta, Method, Placement, Tensors, kaiming_uniform
from pace_tune.methods.targets import Targets, targets_of
from pace_tune.registry import methods


class LoraDelta(LinearDelta):
    """delta(x) = scale * B A x, with an A and a B for each group of rows that is adapted.

    A path (K, r) says which of the r hidden units a lane uses.

    Args:
        rows: Name -> rows; None for one A and B over all of them.
        dropout: Share of the inputs that A does not see in a training step.
    """

    def __init__(self, base: nn.Linear, *, rank: int, rows: Mapping[str, slice] | None = None, dropout: float = 0.0) -> None:
        super().__init__(base)
        self.rank, self.dropout = rank, dropout
        self.rows = dict(rows or {"": slice(0, self.out_features)})

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return A Kaiming-uniform, B = 0."""
        start: dict[str, Tensor] = {}
        for name, rows in self.rows.items():
            start[f"up{name}"] = kaiming_uniform((self.rank, self.in_features), generator)
            start[f"down{name}"] = torch.zeros(rows.stop - rows.start, self.rank)
        return start

    def mask_width(self, parameters: Tensors) -> int:
        """Return I."""
        return self.in_features

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (scale * B A, None)."""
        on = parameters["path"][:, None] if "path" in parameters else 1.0
        parts = [self._outside(parameters[f"down{n}"] @ (on * parameters[f"up{n}"]), rows, axis=0) for n, rows in self.rows.items()]
        return sum(parts[1:], parts[0]) * parameters.get("scale", 1.0), None

    def factors(self, parameters: Tensors) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Return (A, scale * B, None) of all groups of rows side by side; None in a step that drops inputs."""
        if "mask" in parameters:
            return None
        on = parameters["path"][:, None] if "path" in parameters else 1.0
        scale = parameters["scale"][:, None, None] if "scale" in parameters else 1.0
        downs = [self._outside(parameters[f"down{name}"] * on, rows, axis=0) for name, rows in self.rows.items()]
        return torch.cat([parameters[f"up{name}"] for name in self.rows], dim=1), torch.cat(downs, dim=2) * scale, None

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return scale * B (A x) as two products for all groups of rows; B A is never formed."""
        if "mask" in parameters:
            x_KTI = x_KTI * parameters["mask"]
        up_KgI = torch.cat([parameters[f"up{name}"] for name in self.rows], dim=1)
        hidden_KTg = torch.bmm(x_KTI, up_KgI.mT)
        if "scale" in parameters:
            hidden_KTg = hidden_KTg * parameters["scale"][:, None, None]
        if "path" in parameters:
            hidden_KTg = hidden_KTg * parameters["path"].repeat(1, len(self.rows))[:, None]
        hidden = hidden_KTg.chunk(len(self.rows), dim=-1)
        parts = [torch.bmm(h_KTr, parameters[f"down{name}"].mT) for h_KTr, name in zip(hidden, self.rows, strict=True)]
        placed = [self._outside(part, rows, axis=-1) for part, rows in zip(parts, self.rows.values(), strict=True)]
        return sum(placed[1:], placed[0])

    def _outside(self, part: Tensor, rows: slice, *, axis: int) -> Tensor:
        """Put zeros before and after what the rows of one group make."""
        before, after = rows.start, self.out_features - rows.stop
        if not before and not after:
            return part
        return F.pad(part, (before, after) if axis == -1 else (0, 0, before, after))


@methods.register("lora")
class Lora(Method):
    """A low-rank matrix added to the attention's linear layers, or to those that are named."""

    paper: ClassVar[str] = "Hu et al. 2022 (LoRA)"
    peft_type: ClassVar[str] = "LORA"
    changes: ClassVar[Changes] = "linear"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rank", "alpha"})

    rank: int = Field(default=8, ge=1, description="Rank of the added matrix.")
    alpha: float | None = Field(default=None, gt=0, description="The product is multiplied by alpha / rank; null follows rank: 1.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the inputs of A; 0.1 in the published VTAB protocol.")
    targets: Targets = Field(default="qkv", description="Layers: any of q, k, v, attn_out, mlp_in, mlp_out, gate, or all.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per layer; on a fused layer, q and v alone get rows of their own."""
        for target in targets_of(layout, self.targets, method=self.name):
            yield Placement(target.place, LoraDelta(target.place.linear, rank=self.rank, rows=target.rows, dropout=self.dropout))

    def scalars(self) -> dict[str, float]:
        """Return alpha / rank."""
        return {"scale": 1.0 if self.alpha is None else self.alpha / self.rank}
