"""The bottleneck that adapters are made of: f(x) = scale * (U phi(D x + a) + b)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pace_tune.methods.method import Tensors, kaiming_uniform, xavier_uniform
from pace_tune.methods.sites.feature import FeatureDelta

Activation = Literal["relu", "gelu", "quick_gelu", "silu"]
Start = Literal["zero", "xavier"]
"""``zero``: U = 0, D Kaiming-uniform, biases 0, so that the adapter starts as nothing. ``xavier``: both matrices
Xavier-uniform, biases N(0, 1e-6), as NOAH's adapter."""


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


# Each maps 0 to 0, so that hidden units which only pad a lane stay out of everything.
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "quick_gelu": quick_gelu, "silu": F.silu}


class BottleneckDelta(FeatureDelta):
    """A bottleneck of h hidden units. A path (K, h) says which of them a lane uses.

    Args:
        hidden: h.
        start: How U begins.
    """

    def __init__(self, width: int, *, hidden: int, activation: Activation = "relu", start: Start = "zero", dropout: float = 0.0) -> None:
        super().__init__(width)
        self.hidden, self.start, self.dropout = hidden, start, dropout
        self.activation = ACTIVATIONS[activation]
        self.why_not = f"{activation} stands between its two matrices"

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the start values."""
        if self.start == "xavier":
            return {
                "down": xavier_uniform((self.hidden, self.width), generator),
                "down_bias": 1e-6 * torch.randn(self.hidden, generator=generator),
                "up": xavier_uniform((self.width, self.hidden), generator),
                "up_bias": 1e-6 * torch.randn(self.width, generator=generator),
            }
        return {
            "down": kaiming_uniform((self.hidden, self.width), generator),
            "down_bias": torch.zeros(self.hidden),
            "up": torch.zeros(self.width, self.hidden),
            "up_bias": torch.zeros(self.width),
        }

    def mask_width(self, parameters: Tensors) -> int:
        """Return h."""
        return parameters["down_bias"].shape[-1]

    def forward(self, x_TC: Tensor, parameters: Tensors) -> Tensor:
        """Return f(x) of one lane, with everything on."""
        hidden_Th = self.activation(F.linear(x_TC, parameters["down"], parameters["down_bias"]))
        return F.linear(hidden_Th, parameters["up"], parameters["up_bias"]) * parameters.get("scale", 1.0)

    def lanes(self, x_KTC: Tensor, parameters: Tensors) -> Tensor:
        """Return f(x) of all lanes, two products."""
        hidden_KTh = self.activation(torch.baddbmm(parameters["down_bias"][:, None], x_KTC, parameters["down"].mT))
        if "mask" in parameters:
            hidden_KTh = hidden_KTh * parameters["mask"]
        up_bias_KC = parameters["up_bias"]
        if "path" in parameters:
            hidden_KTh = hidden_KTh * parameters["path"][:, None]
            up_bias_KC = up_bias_KC * parameters["path"].amax(dim=1, keepdim=True)  # an adapter of width 0 is not there
        out_KTC = torch.baddbmm(up_bias_KC[:, None], hidden_KTh, parameters["up"].mT)
        return out_KTC * parameters["scale"][:, None, None] if "scale" in parameters else out_KTC
