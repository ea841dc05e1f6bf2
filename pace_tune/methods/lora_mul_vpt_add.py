"""LoRA_mul + VPT_add, the paper's baseline: dW = W0 * (B A), db = b0 * b + W0 P."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.lora_mul import LoraMulDelta
from pace_tune.methods.method import LinearDelta, LinearMethod, Tensors
from pace_tune.methods.vpt_add import PromptForm, init_prompt, prompt, through
from pace_tune.registry import methods


class LoraMulVptAddDelta(LoraMulDelta):
    """The sum of both deltas on one layer."""

    def __init__(self, base: nn.Linear, *, rank: int, form: PromptForm, prompted: bool) -> None:
        super().__init__(base, rank=rank)
        self.form, self.prompted = form, prompted

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return both parts' start values."""
        matrix = super().init(generator)
        if not self.prompted:
            return matrix
        return {**matrix, **init_prompt(self.form, in_features=self.in_features, rank=self.rank, generator=generator)}

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (W0 * B A, b0 * b + W0 P)."""
        weight, bias = super().weights(parameters)
        if not self.prompted:
            return weight, bias
        shift = through(prompt(parameters), self.weight)
        return weight, shift if bias is None else bias + shift


@methods.register("lora_mul_vpt_add")
class LoraMulVptAdd(LinearMethod):
    """The paper's baseline: a low-rank rescaling and a folded prompt on every linear layer."""

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), section 3.1"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rank"})

    rank: int = Field(default=10, ge=1, description="Rank of the rescaling, and inner width of a factorised prompt.")
    prompt: PromptForm = Field(default="vector", description="How P is stored.")
    prompt_without_bias: bool = Field(
        default=False,
        description="Whether layers without a bias have a prompt too, as in the released code; they cannot be merged.",
    )

    def delta(self, base: nn.Linear) -> LinearDelta:
        """Return the combined delta of one layer."""
        prompted = base.bias is not None or self.prompt_without_bias
        return LoraMulVptAddDelta(base, rank=self.rank, form=self.prompt, prompted=prompted)
