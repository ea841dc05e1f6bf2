"""Gradient checkpointing: blocks keep their input only, and run again when the backward pass comes to them.

Noise and masks of a step are drawn before its forward pass and dropout is a hash of where it is, so a block that runs again
under the same draw computes the same numbers; nothing has to be stored for it but which draw that was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import LaneContext


def checkpoint_blocks(adapted: Adapted) -> None:
    """Make every block of an adapted model run again in the backward pass of training steps; other passes stay as they are."""
    for place in adapted.layout.role("block"):
        block = adapted.model.get_submodule(place.name)
        block.__dict__["lane_context"] = adapted.context
        kind: Any = type(block)
        block.__class__ = _checkpointed(kind)


@cache
def _checkpointed(kind: Any) -> Any:
    # A subclass and not a patched method: copies of the model then call themselves and not the original.
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (torch.is_grad_enabled() and self.lane_context.in_step):
            return kind.forward(self, *args, **kwargs)
        context: LaneContext = self.lane_context
        again = _again(context)
        return checkpoint(
            kind.forward, self, *args, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), again), **kwargs
        )

    return type(f"Checkpointed{kind.__name__}", (kind,), {"forward": forward, "__doc__": kind.__doc__})


def _again(context: LaneContext) -> AbstractContextManager[None]:
    """Return a context in which the sites see what they see now."""
    rows, draw, alone = context.rows, context.draw, context.class_token_alone

    @contextmanager
    def restored() -> Iterator[None]:
        present = context.rows, context.draw
        context.rows, context.draw = rows, draw
        try:
            with context.reading(class_token_alone=alone):
                yield
        finally:
            context.rows, context.draw = present

    return restored()
