"""The classification head, and layers that are as new as it is: trained fully, over a base of zero."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from pace_tune.methods.method import LinearDelta
from pace_tune.methods.site import Plain, Site


class HeadDelta(LinearDelta):
    """The head's weight and bias, trained fully: a delta over a base of zero."""

    def __init__(self, base: nn.Linear, *, keep: bool = False) -> None:
        super().__init__(base)
        self.keep = keep

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return PyTorch's default initialisation of `nn.Linear`, or the present weights if `keep`."""
        if self.keep:
            start = {"weight": self.weight.detach().clone()}
            return start if self.bias is None else {**start, "bias": self.bias.detach().clone()}
        bound = self.in_features**-0.5
        start = {"weight": torch.empty(self.out_features, self.in_features).uniform_(-bound, bound, generator=generator)}
        if self.bias is not None:
            start["bias"] = torch.empty(self.out_features).uniform_(-bound, bound, generator=generator)
        return start

    def weights(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Return the head itself."""
        return parameters["weight"], parameters.get("bias")

    def lanes(self, x_KTI: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the logits of all lanes."""
        weight_KIO = parameters["weight"].mT
        if "bias" not in parameters:
            return torch.bmm(x_KTI, weight_KIO)
        return torch.baddbmm(parameters["bias"][:, None], x_KTI, weight_KIO)


class HeadSite(Site):
    """The classification head: base zero, so noise multiplies the logits themselves, bias included."""

    base: nn.Linear
    delta: HeadDelta

    @property
    def channels(self) -> int:
        """Number of logits."""
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map features (rows, ..., I) to logits (rows, ..., C)."""
        values = self.values
        x_KTI = x.reshape(self.context.lanes, -1, x.shape[-1]).to(values["weight"].dtype)
        logits_KRTC = self.context.per_lane(self.delta.lanes(x_KTI, values).flatten(0, 1))
        return self.alone(logits_KRTC).reshape(*x.shape[:-1], -1)

    def merged(self, lane: int, inner: Plain) -> nn.Linear:
        """Return the trained head as `nn.Linear`."""
        plain = copy.deepcopy(self.base, dict(inner))
        with torch.no_grad():
            weight, bias = self.delta.weights(self.of_lane(lane))
            plain.weight.copy_(cast(Tensor, weight))
            if bias is not None:
                plain.bias.copy_(bias)
        return plain
