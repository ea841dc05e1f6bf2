"""RLRR: W0 * (1 + s_row s_col^T), b0 + f, and SSF on norms and patch embedding (Dong et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.layout import Layout
from pace_tune.methods.method import LinearDelta, Method, Placement, Tensors
from pace_tune.methods.ssf import norms_and_patches, scale_shift
from pace_tune.registry import methods


class RlrrDelta(LinearDelta):
    """dW = W0 * (s_row s_col^T), db = f, with a column vector for each group of rows.

    Args:
        sizes: Rows of each group; q, k and v of a fused layer are groups of their own.
    """

    dense = True

    def __init__(self, base: nn.Linear, *, sizes: tuple[int, ...]) -> None:
        super().__init__(base)
        self.sizes = sizes

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return both vectors Kaiming-uniform as published (fan-in 1 for s_row), f = 0: dW is not zero."""
        column, row = (6 / self.in_features) ** 0.5, 6**0.5
        start = {
            "row": torch.empty(self.out_features).uniform_(-row, row, generator=generator),
            "column": torch.empty(len(self.sizes), self.in_features).uniform_(-column, column, generator=generator),
        }
        return start if self.bias is None else {**start, "bias": torch.zeros(self.out_features)}

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (W0 * s_row s_col^T, f). Parameters may carry a leading lane axis."""
        columns = parameters["column"]
        parts = [columns[..., i : i + 1, :].expand(*columns.shape[:-2], size, -1) for i, size in enumerate(self.sizes)]
        return self.weight * parameters["row"][..., None] * torch.cat(parts, dim=-2), parameters.get("bias")

    def weights_lanes(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return the same for all lanes: every operation broadcasts."""
        return self.weights(parameters)

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return dW x + f with vectors alone: W0 is the only matrix."""
        parts = []
        for i, weight_oI in enumerate(self.weight.split(self.sizes)):
            parts.append(nn.functional.linear(x_KTI * parameters["column"][:, i, None], weight_oI))
        out_KTO = torch.cat(parts, dim=-1)
        if "bias" not in parameters:
            return out_KTO * parameters["row"][:, None]
        return torch.addcmul(parameters["bias"][:, None], out_KTO, parameters["row"][:, None])


@methods.register("rlrr")
class Rlrr(Method):
    """A rank-one rescaling of every linear layer with a shift, and SSF on norms and patch embedding."""

    paper: ClassVar[str] = "Dong et al. 2024 (RLRR)"
    identity_at_start: ClassVar[bool] = False

    separate_qkv: bool = Field(default=True, description="Let q, k and v of a fused layer have their own column vectors, as published.")
    init_std: float = Field(default=0.02, ge=0, description="Deviation of the norms' scale and shift from the identity at the start.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per linear layer, norm and patch embedding."""
        for place in layout.linears():
            groups = layout.fused(place).values() if self.separate_qkv else [slice(0, place.linear.out_features)]
            yield Placement(place, RlrrDelta(place.linear, sizes=tuple(rows.stop - rows.start for rows in groups)))
        for place in norms_and_patches(layout):
            yield scale_shift(place, std=self.init_std)
