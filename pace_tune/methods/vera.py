"""VeRA: dW = diag(b) B diag(d) A with frozen random A and B that all layers share (Kopiczko et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Changes, LinearDelta, Method, Placement, Tensors
from pace_tune.methods.targets import Targets, targets_of
from pace_tune.registry import methods


def projections(*, rank: int, in_features: int, out_features: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the frozen A_rI and B_Or of the largest layer, Kaiming-uniform; smaller layers use their corner."""
    rng = torch.Generator().manual_seed(seed)
    a_bound, b_bound = (3 * 2 / in_features) ** 0.5, (3 * 2 / rank) ** 0.5
    a_rI = torch.empty(rank, in_features).uniform_(-a_bound, a_bound, generator=rng)
    return a_rI, torch.empty(out_features, rank).uniform_(-b_bound, b_bound, generator=rng)


class VeraDelta(LinearDelta):
    """delta(x) = b * B (d * A x) for each group of rows.

    Args:
        a: A_rI.
        b: B_Or of the largest layer.
    """

    def __init__(self, base: nn.Linear, *, a: Tensor, b: Tensor, rows: Mapping[str, slice], d_initial: float) -> None:
        super().__init__(base)
        self.a_rI, self.b_Or = a[:, : self.in_features].to(base.weight), b.to(base.weight)
        self.rows, self.d_initial = dict(rows), d_initial

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return d constant, b = 0."""
        start: dict[str, Tensor] = {}
        for name, rows in self.rows.items():
            start[f"d{name}"] = torch.full((len(self.a_rI),), self.d_initial)
            start[f"b{name}"] = torch.zeros(rows.stop - rows.start)
        return start

    def _projections(self) -> tuple[Tensor, Tensor]:
        """Return A_rI and B_Or where and as the layer's weight is now."""
        if (self.a_rI.dtype, self.a_rI.device) != (self.weight.dtype, self.weight.device):
            self.a_rI, self.b_Or = self.a_rI.to(self.weight), self.b_Or.to(self.weight)
        return self.a_rI, self.b_Or

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (diag(b) B diag(d) A, None)."""
        a_rI, b_Or = self._projections()
        parts = []
        for name, rows in self.rows.items():
            b_or = parameters[f"b{name}"][:, None] * b_Or[: rows.stop - rows.start]
            scaled_or = b_or * parameters[f"d{name}"]
            parts.append(F.pad(scaled_or @ a_rI.to(scaled_or.dtype), (0, 0, rows.start, self.out_features - rows.stop)))
        return sum(parts[1:], parts[0]), None

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return the same without forming dW; A and B are shared, so their products are ordinary ones."""
        a_rI, b_Or = self._projections()
        hidden_KTr = F.linear(x_KTI, a_rI)
        parts = []
        for name, rows in self.rows.items():
            out_KTo = F.linear(hidden_KTr * parameters[f"d{name}"][:, None], b_Or[: rows.stop - rows.start])
            parts.append(F.pad(out_KTo * parameters[f"b{name}"][:, None], (rows.start, self.out_features - rows.stop)))
        return sum(parts[1:], parts[0])


@methods.register("vera")
class Vera(Method):
    """Two vectors a layer that scale frozen random projections shared by all layers."""

    paper: ClassVar[str] = "Kopiczko et al. 2024 (VeRA)"
    peft_type: ClassVar[str] = "VERA"
    changes: ClassVar[Changes] = "linear"

    rank: int = Field(default=256, ge=1, description="Inner width of the random projections; 1024 in the published GLUE runs.")
    d_initial: float = Field(default=0.1, description="Start value of d.")
    targets: Targets = Field(default="qv", description="Layers: any of q, k, v, attn_out, mlp_in, mlp_out, gate, or all.")
    projection_seed: int = Field(default=0, ge=0, description="Of the random projections.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per layer, all with corners of the same projections."""
        targets = list(targets_of(layout, self.targets, method=self.name))
        heights = [rows.stop - rows.start for target in targets for rows in target.rows.values()]
        width = max(target.place.linear.in_features for target in targets)
        a, b = projections(rank=self.rank, in_features=width, out_features=max(heights), seed=self.projection_seed)
        for target in targets:
            yield Placement(target.place, VeraDelta(target.place.linear, a=a, b=b, rows=target.rows, d_initial=self.d_initial))
