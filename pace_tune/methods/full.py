"""Full fine-tuning, as deltas of every parameter over the frozen pretrained values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from pace_tune.methods.layout import Layout
from pace_tune.methods.method import LinearDelta, Method, Placement, Tensors
from pace_tune.methods.site import EmbedDelta, ModuleDelta
from pace_tune.registry import methods


class DenseDelta(LinearDelta):
    """dW and db without structure."""

    dense = True

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return zeros."""
        start = {"weight": torch.zeros(self.out_features, self.in_features)}
        return start if self.bias is None else {**start, "bias": torch.zeros(self.out_features)}

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return the parameters themselves."""
        return parameters["weight"], parameters.get("bias")

    def weights_lanes(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return the parameters themselves."""
        return self.weights(parameters)


@methods.register("full")
class Full(Method):
    """Train every parameter. Noise multiplies the deltas of the linear layers, dW x + db."""

    paper: ClassVar[str] = "full fine-tuning"

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return a delta for each module that holds parameters of its own, the head excluded."""
        for place in layout.holders:
            if isinstance(place.module, nn.Linear):
                yield Placement(place, DenseDelta(place.module))
            elif place.name:
                yield Placement(place, ModuleDelta(place.module))
            elif layout.embed is not None:
                yield Placement(layout.embed, EmbedDelta(place.module))
