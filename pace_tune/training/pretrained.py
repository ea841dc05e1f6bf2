"""What the frozen backbone says of the samples that are measured: no lane changes it, so a worker computes it once."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from pace_tune.methods.layout import layout_of
from pace_tune.training.data import ResidentData

ROWS_PER_PASS = 256


class Pretrained:
    """The pretrained model's features of a split's first samples.

    Args:
        model: The backbone without deltas, in evaluation mode.
    """

    def __init__(self, model: nn.Module, data: ResidentData) -> None:
        self.model, self.data = model, data
        self._features: dict[int, Tensor | None] = {}

    def features(self, count: int) -> Tensor | None:
        """Return what the head is given for the first `count` samples, x_NI.

        None where the logits are not the head's output on one vector a sample: where other new layers come before the head,
        where a model writes tokens, or where it has no head.
        """
        if count not in self._features:
            self._features[count] = self._computed(count)
        return self._features[count]

    @torch.no_grad()
    def _computed(self, count: int) -> Tensor | None:
        layout = layout_of(self.model)
        if layout.head is None or layout.head_parts:
            return None
        found: list[tuple[Tensor, Tensor]] = []

        def record(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            found.append((args[0], out))

        handle = self.model.get_submodule(layout.head.name).register_forward_hook(record)
        try:
            said = [self._logits(start, min(start + ROWS_PER_PASS, count)) for start in range(0, count, ROWS_PER_PASS)]
        finally:
            handle.remove()
        last = len(found) == len(said) and all(
            x.ndim == 2 and torch.equal(out, logits) for (x, out), logits in zip(found, said, strict=True)
        )
        return torch.cat([x for x, _ in found]) if last else None

    def _logits(self, start: int, stop: int) -> Tensor:
        out = self.model(**self.data.shared_batch(slice(start, stop), lanes=1))
        return cast(Tensor, getattr(out, "logits", out))
