"""Houlsby's adapter: a bottleneck after attention and after the MLP (Houlsby et al., ICML 2019)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from pace_tune.methods.bottleneck import Activation, BottleneckDelta
from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Method, Placement
from pace_tune.registry import methods


@methods.register("adapter_houlsby")
class AdapterHoulsby(Method):
    """Two bottlenecks a block, on the outputs of attention and of the MLP, before the residual sums."""

    paper: ClassVar[str] = "Houlsby et al. 2019"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"hidden"})

    hidden: int = Field(default=8, ge=1, description="Width of the bottleneck.")
    activation: Activation = Field(default="silu", description="Between the two matrices.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the hidden units in training.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return two deltas per block."""
        for role in ("attn_out", "mlp_out"):
            for place in layout.require_role(role, method=self.name):
                delta = BottleneckDelta(place.linear.out_features, hidden=self.hidden, activation=self.activation, dropout=self.dropout)
                yield Placement(place, delta)
