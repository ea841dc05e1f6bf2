"""VPT-Deep: tokens of its own before every block (Jia et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.method import Method, Placement
from pace_tune.methods.sites.block import PromptDelta
from pace_tune.registry import methods

WINDOWS = "its attention sees windows of a grid, and prompts have no place in it"
CAUSAL = "a token's place in the sequence gives its position, and prompts have none"


def prompt_delta(layout: Layout, block: Place, *, count: int, dropout: float = 0.0) -> PromptDelta:
    """Return prompts of a block, uniform in +-sqrt(6 / (fan of a patch + width))."""
    width = block_width(layout, block)
    weight = layout.patch.module.weight if layout.patch else None
    fan = weight[0].numel() if isinstance(weight, Tensor) else width  # words have no patch: a width stands in for it
    return PromptDelta(count=count, width=width, bound=(6 / (fan + width)) ** 0.5, dropout=dropout)


def block_width(layout: Layout, block: Place) -> int:
    """Return the width of the residual stream in a block."""
    return layout.beside(block, "mlp_out")[0].linear.out_features


@methods.register("vpt_deep")
class VptDeep(Method):
    """Prompts that every block attends to beside its tokens, new ones for each block."""

    paper: ClassVar[str] = "Jia et al. 2022 (VPT)"
    identity_at_start: ClassVar[bool] = False
    refused: ClassVar[dict[str, str]] = {"swin": WINDOWS, "phi3": CAUSAL, "llama": CAUSAL}

    prompts: int = Field(default=10, ge=1, description="Tokens per block; 1 to 200 by task in the published runs.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one set of prompts per block."""
        for block in layout.require_role("block", method=self.name):
            yield Placement(block, prompt_delta(layout, block, count=self.prompts))
