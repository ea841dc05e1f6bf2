"""LoRA_mul: dW = W0 * (B A), db = b0 * b on every linear layer (PACE, section 3.1)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.method import LinearDelta, LinearMethod, Tensors, xavier_uniform
from pace_tune.registry import methods


class LoraMulDelta(LinearDelta):
    """An element-wise rescaling of W0 by a low-rank matrix; the bias term exists only where the layer has a bias."""

    dense = True

    def __init__(self, base: nn.Linear, *, rank: int) -> None:
        super().__init__(base)
        self.rank = rank

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return B = 0, A Xavier-uniform, b = 0."""
        start = {"down": torch.zeros(self.out_features, self.rank), "up": xavier_uniform((self.rank, self.in_features), generator)}
        return start if self.bias is None else {**start, "bias": torch.zeros(self.out_features)}

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (W0 * B A, b0 * b). Parameters may carry a leading lane axis."""
        weight = self.weight * (parameters["down"] @ parameters["up"])
        return weight, None if self.bias is None else self.bias * parameters["bias"]

    def weights_lanes(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return the same for all lanes: every operation broadcasts."""
        return self.weights(parameters)

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return dW x + db, one product for all lanes."""
        weight, bias = self.weights_lanes(parameters)
        assert weight is not None
        return torch.bmm(x_KTI, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x_KTI, weight.mT)


@methods.register("lora_mul")
class LoraMul(LinearMethod):
    """A low-rank rescaling of every linear layer: W0 * (1 + B A), b0 * (1 + b)."""

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), section 3.1"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rank"})

    rank: int = Field(default=10, ge=1, description="Rank of the rescaling.")

    def delta(self, base: nn.Linear) -> LinearDelta:
        """Return the rescaling delta of one layer."""
        return LoraMulDelta(base, rank=self.rank)
