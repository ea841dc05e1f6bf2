"""VPT_add: a prompt folded into each layer's bias, db = W0 P (PACE, section 3.1). No token is added."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.method import LinearDelta, LinearMethod, Tensors, xavier_uniform
from pace_tune.registry import methods

PromptForm = Literal["vector", "factorised"]
"""``vector``: P_I, what the paper's parameter counts fit. ``factorised``: P = D_Ir u_r, as the released code has it."""


def init_prompt(form: PromptForm, *, in_features: int, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the start values of one prompt; P = 0 in both forms."""
    if form == "vector":
        return {"prompt": torch.zeros(in_features)}
    return {"prompt_down": torch.zeros(in_features, rank), "prompt_up": xavier_uniform((rank, 1), generator)}


def prompt(parameters: Tensors) -> Tensor:
    """Return P_I, or P_KI where the parameters carry a leading lane axis."""
    if "prompt" in parameters:
        return parameters["prompt"]
    return (parameters["prompt_down"] @ parameters["prompt_up"]).squeeze(-1)


def through(prompt: Tensor, weight: Tensor) -> Tensor:
    """Return W0 P in the prompt's precision: the frozen weight may be in half of it."""
    return prompt @ weight.to(prompt.dtype).mT


class VptAddDelta(LinearDelta):
    """delta(x) = W0 P, the same for every input."""

    def __init__(self, base: nn.Linear, *, form: PromptForm, rank: int) -> None:
        super().__init__(base)
        self.form, self.rank = form, rank

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return a prompt of zero."""
        return init_prompt(self.form, in_features=self.in_features, rank=self.rank, generator=generator)

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (None, W0 P)."""
        return None, through(prompt(parameters), self.weight)

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return (K, 1, O): one value for all tokens."""
        return through(prompt(parameters), self.weight)[:, None]


@methods.register("vpt_add")
class VptAdd(LinearMethod):
    """A prompt per linear layer, folded into its bias: b0 + W0 P."""

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), section 3.1"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rank"})

    form: PromptForm = Field(default="vector", description="How P is stored.")
    rank: int = Field(default=1, ge=1, description="Inner width of a factorised P; without effect on a vector.")

    def delta(self, base: nn.Linear) -> LinearDelta:
        """Return the prompt's delta of one layer."""
        return VptAddDelta(base, form=self.form, rank=self.rank)
