"""BitFit: only biases train (Ben Zaken et al., ACL 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from pace_tune.errors import UnsupportedError
from pace_tune.methods.layout import Layout
from pace_tune.methods.method import LinearDelta, Method, Placement, Tensors
from pace_tune.methods.sites.feature import ScaleShiftDelta
from pace_tune.registry import methods


class BiasDelta(LinearDelta):
    """delta(x) = b, the same for every input."""

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return b = 0."""
        return {"bias": torch.zeros(self.out_features)}

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (None, b)."""
        return None, parameters["bias"]

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return (K, 1, O): one value for all tokens."""
        return parameters["bias"][:, None]


@methods.register("bitfit")
class BitFit(Method):
    """The biases of linear layers, norms and the patch embedding, as deltas."""

    paper: ClassVar[str] = "Ben Zaken et al. 2022 (BitFit)"
    refused: ClassVar[dict[str, str]] = {"phi3": "it has no biases", "llama": "it has no biases"}

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return a delta for every bias.

        Raises:
            UnsupportedError: The model has none.
        """
        biased = [place for place in layout.holders if isinstance(getattr(place.module, "bias", None), Tensor)]
        if not biased:
            raise UnsupportedError(f"method {self.name!r} trains biases, and this model of family {layout.family!r} has none.")
        for place in biased:
            if isinstance(place.module, nn.Linear):
                yield Placement(place, BiasDelta(place.module))
            else:
                bias = place.module.bias
                assert isinstance(bias, Tensor)
                yield Placement(place, ScaleShiftDelta(len(bias), scales=False))
