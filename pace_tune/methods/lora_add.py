"""LoRA_add: dW = B A, db = b on every linear layer (PACE, eq. 2; Hu et al., 2022, with a bias and without alpha)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.method import LinearDelta, LinearMethod, Tensors, xavier_uniform
from pace_tune.registry import methods


class LoraAddDelta(LinearDelta):
    """delta(x) = B A x + b with B_Or = 0 and A_rI Xavier at the start."""

    def __init__(self, base: nn.Linear, *, rank: int) -> None:
        super().__init__(base)
        self.rank = rank

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return B = 0, A Xavier-uniform, b = 0."""
        start = {"down": torch.zeros(self.out_features, self.rank), "up": xavier_uniform((self.rank, self.in_features), generator)}
        # A layer without a bias gets none: a checkpoint of the merged model could not store it.
        return start if self.bias is None else {**start, "bias": torch.zeros(self.out_features)}

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (B A, b)."""
        return parameters["down"] @ parameters["up"], parameters.get("bias")

    def factors(self, parameters: Tensors) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (A, B, b)."""
        return parameters["up"], parameters["down"], parameters.get("bias")

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return B (A x) + b as two products; B A is never formed."""
        hidden_KTr = torch.bmm(x_KTI, parameters["up"].mT)
        if "bias" not in parameters:
            return torch.bmm(hidden_KTr, parameters["down"].mT)
        return torch.baddbmm(parameters["bias"][:, None], hidden_KTr, parameters["down"].mT)


@methods.register("lora_add")
class LoraAdd(LinearMethod):
    """A low-rank matrix and a bias added to every linear layer: W0 + B A, b0 + b."""

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), eq. 2"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rank"})

    rank: int = Field(default=4, ge=1, description="Rank of the added matrix.")

    def delta(self, base: nn.Linear) -> LinearDelta:
        """Return the low-rank delta of one layer."""
        return LoraAddDelta(base, rank=self.rank)
