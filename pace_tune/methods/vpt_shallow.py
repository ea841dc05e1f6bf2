"""VPT-Shallow: tokens of its own before the first block (Jia et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from pydantic import Field

from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Method, Placement
from pace_tune.methods.sites.block import NoDelta, PromptEndSite, PromptSite
from pace_tune.methods.vpt_deep import CAUSAL, WINDOWS, prompt_delta
from pace_tune.registry import methods

MASKED = "every block takes an attention mask as long as the text; use vpt_deep"


@methods.register("vpt_shallow")
class VptShallow(Method):
    """Prompts that enter with the image's tokens and go through all blocks."""

    paper: ClassVar[str] = "Jia et al. 2022 (VPT)"
    identity_at_start: ClassVar[bool] = False
    refused: ClassVar[dict[str, str]] = {"swin": WINDOWS, "phi3": CAUSAL, "llama": CAUSAL, "roberta": MASKED, "bert": MASKED}

    prompts: int = Field(default=10, ge=1, description="Tokens; 1 to 200 by task in the published runs.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return the prompts at the first block, and where they end."""
        blocks = layout.require_role("block", method=self.name)
        first = prompt_delta(layout, blocks[0], count=self.prompts)
        yield Placement(blocks[0], first, partial(PromptSite, strips=len(blocks) == 1))
        if len(blocks) > 1:
            yield Placement(blocks[-1], NoDelta(), partial(PromptEndSite, count=self.prompts))
