"""DELTA: stay close in the features instead of the weights (Li et al., ICLR 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.adapted import Adapted
from pace_tune.pace.objective import Step, Terms
from pace_tune.pace.penalised import HeadDecayed
from pace_tune.pace.weight_space import half_squared, head_weights
from pace_tune.registry import objectives


@objectives.register("delta")
class Delta(HeadDecayed):
    """Task loss + lambda * feature distance + head_decay / 2 * ||head||^2.

    The distance is ||F(x; theta) - F(x; theta_0)||^2 / 2, summed over channels, averaged over tokens, blocks and batch,
    with F the outputs of the transformer blocks (of the adapted layers, where a model has no blocks). All channels weigh
    the same: the variant without attention weights, which would need a labelled pass per channel beforehand.
    """

    paper: ClassVar[str] = "Li et al. 2019 (DELTA); Ni et al. 2024 (PACE), Table 8"

    lambda_: float = Field(default=0.01, ge=0, alias="lambda", description="Weight of the feature distance.")

    def terms(self, step: Step) -> Terms:
        """Return the losses of one clean pass; the reference sees the same DropPath masks."""
        draw = step.draw(renormalise=self.renormalise_drop_path)
        with _features(step.adapted) as tuned:
            logits_KBC = step.forward(draw)[:, 0]
        with torch.no_grad(), step.adapted.context.without_adapters(), _features(step.adapted) as pretrained:
            step.forward(draw)
        pairs = [(tuned[name] - pretrained[name]).square() for name in tuned]
        distances = [0.5 * pair.sum(dim=-1).reshape(len(logits_KBC), -1).mean(dim=1) for pair in pairs]
        terms = self.sum(step, logits_KBC, torch.stack(distances).mean(dim=0))
        decay_K = step.strengths["head_decay"] * half_squared(head_weights(step.adapted), like=logits_KBC)
        return replace(terms, total=terms.total + decay_K)


@contextmanager
def _features(adapted: Adapted) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of all blocks, (rows, ..., channels), while open."""
    found: dict[str, Tensor] = {}
    names = [place.name for place in adapted.layout.role("block")] or [place.name for place in adapted.layout.linears()]
    handles = []
    for name in names:

        def keep(_: nn.Module, __: tuple[Any, ...], out: Any, key: str = name) -> None:
            found[key] = out if isinstance(out, Tensor) else out[0]

        handles.append(adapted.model.get_submodule(name).register_forward_hook(keep))
    keeps, adapted.keeps_tokens = adapted.keeps_tokens, True
    try:
        yield found
    finally:
        adapted.keeps_tokens = keeps
        for handle in handles:
            handle.remove()
