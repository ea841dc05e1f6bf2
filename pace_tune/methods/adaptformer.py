"""AdaptFormer: a bottleneck parallel to the MLP (Chen et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from pydantic import Field

from pace_tune.methods.bottleneck import BottleneckDelta
from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Method, Placement
from pace_tune.methods.sites.block import StreamSite, TailSite
from pace_tune.registry import methods


@methods.register("adaptformer")
class AdaptFormer(Method):
    """x + MLP(norm x) + s * (U ReLU(D x + a) + b), with x the residual stream after attention; no norm, no DropPath."""

    paper: ClassVar[str] = "Chen et al. 2022 (AdaptFormer)"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"hidden", "scale"})

    hidden: int = Field(default=64, ge=1, description="Width of the bottleneck; 8 in the VTAB tables.")
    scale: float = Field(default=0.1, gt=0, description="s, fixed.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Of the hidden units in training.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per block."""
        tails = {place.level: place for place in layout.role("mlp_tail")}
        norms = {place.level: place for place in layout.require_role("norm2", method=self.name)}
        for block in layout.require_role("block", method=self.name):
            width = len(norms[block.level].module.weight)  # type: ignore[arg-type]
            delta = BottleneckDelta(width, hidden=self.hidden, dropout=self.dropout)
            if block.level in tails:
                yield Placement(tails[block.level], delta, partial(TailSite, reads_stream=True))
            else:
                yield Placement(block, delta, partial(StreamSite, norm=norms[block.level].name[len(block.name) + 1 :]))

    def scalars(self) -> dict[str, float]:
        """Return s."""
        return {"scale": self.scale}
