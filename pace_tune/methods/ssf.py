"""SSF: y = gamma * x + beta after every operation (Lian et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.method import Method, Placement
from pace_tune.methods.sites.feature import ScaleShiftDelta
from pace_tune.registry import methods


def scale_shift(place: Place, *, std: float) -> Placement:
    """Return a delta (gamma - 1) * y + beta of a module's output y; beta only where the module has a bias to take it."""
    weight = place.module.weight
    assert isinstance(weight, Tensor)
    return Placement(place, ScaleShiftDelta(len(weight), shifts=getattr(place.module, "bias", None) is not None, std=std))


def norms_and_patches(layout: Layout) -> Iterator[Place]:
    """Yield what is no linear layer and scales channels: norms, and the patch embedding."""
    for place in layout.holders:
        weight = getattr(place.module, "weight", None)
        if isinstance(place.module, nn.Conv2d) or (isinstance(weight, Tensor) and weight.ndim == 1):
            yield place


@methods.register("ssf")
class Ssf(Method):
    """A scale and a shift per channel after every linear layer, norm and the patch embedding."""

    paper: ClassVar[str] = "Lian et al. 2022 (SSF)"
    identity_at_start: ClassVar[bool] = False

    init_std: float = Field(default=0.02, ge=0, description="Deviation of gamma from 1 and of beta from 0 at the start.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per operation."""
        for place in (*layout.linears(), *norms_and_patches(layout)):
            yield scale_shift(place, std=self.init_std)
