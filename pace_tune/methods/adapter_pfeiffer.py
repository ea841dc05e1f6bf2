"""Pfeiffer's adapter: a bottleneck after the MLP (Pfeiffer et al., EACL 2021)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from pydantic import Field

from pace_tune.methods.bottleneck import Activation, BottleneckDelta
from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Method, Placement
from pace_tune.methods.sites.block import TailSite
from pace_tune.registry import methods


@methods.register("adapter_pfeiffer")
class AdapterPfeiffer(Method):
    """One bottleneck a block, on the MLP's output before the residual sum.

    In blocks whose norms follow the sums (RoBERTa, BERT) it reads the normed sum, as AdapterHub and LoRA's code have it.
    """

    paper: ClassVar[str] = "Pfeiffer et al. 2021"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"hidden"})

    hidden: int = Field(default=8, ge=1, description="Width of the bottleneck.")
    activation: Activation = Field(default="relu", description="Between the two matrices.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the hidden units in training.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per block."""
        tails = {place.level: place for place in layout.role("mlp_tail")}
        for place in layout.require_role("mlp_out", method=self.name):
            delta = BottleneckDelta(place.linear.out_features, hidden=self.hidden, activation=self.activation, dropout=self.dropout)
            if place.level in tails:
                yield Placement(tails[place.level], delta, partial(TailSite, reads_stream=False))
            else:
                yield Placement(place, delta)
