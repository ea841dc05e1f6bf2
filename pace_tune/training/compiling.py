"""Blocks through `torch.compile`: one program for all blocks of a shape, in training steps alone.

What differs between blocks reaches a program as tensors: weights, the lanes' parameters, and the numbers of the step's draw, which
are drawn before the pass and found by names within the block. Validation, measures and everything that differentiates twice stay
outside of training steps, and so run the blocks as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from pace_tune.errors import ConfigError
from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import LaneContext
from pace_tune.methods.site import Site
from pace_tune.methods.stochastic import SharedDropPath
from pace_tune.training.capture import CaptureError

log = logging.getLogger(__name__)

FAMILIES = ("vit", "swin", "hf_vit")
"""Of which it was tested. The tokens of a text's batches are as many as its longest has: there each number would be a program."""
MOST_SHAPES = 16
"""Sets of lanes and parameter shapes that are compiled; any further one runs as it is. Each costs seconds to minutes."""
MOST_PROGRAMS = 16 * MOST_SHAPES
"""What PyTorch may keep of one block's code: for each shape with and without noise, gradients and, in Swin, shifts."""

LONGEST_REASON = 300
"""Characters: PyTorch's errors go on with whole programs."""


class CompiledError(Exception):
    """An epoch with compiled blocks failed. Its cause says how; it may have failed without them too."""


class Compiler:
    """Compiles the blocks of a worker's populations.

    Args:
        backend: Of `torch.compile`.
    """

    def __init__(self, *, backend: str | Callable[..., Any] = "inductor") -> None:
        self.backend, self.on = backend, True
        self._shapes: set[Hashable] = set()
        self._said: set[str] = set()

    def prepare(self, adapted: Adapted, *, processes: int = 1) -> bool:
        """Make the blocks of an adapted model ones that can run compiled; False, with the reason in the log, where they cannot.

        Args:
            processes: How many train each batch together; an epoch that runs again would have to in all of them.
        """
        reason = why_not_compiled(adapted) if processes == 1 else "several processes train each batch together"
        if reason:
            self._say(f"resources.compile: method {adapted.methods[0].name!r} runs uncompiled: {reason}.")
            return False
        for place in adapted.layout.role("block"):
            block = adapted.model.get_submodule(place.name)
            keyed = [module for module in block.modules() if isinstance(module, Site | SharedDropPath)]
            for module in keyed:
                module.key = module.name.removeprefix(f"{place.name}.")
            kind: Any = type(block)
            # Not as a compiled module around it: names in state dicts stay what they are.
            block.__dict__.update(lane_context=adapted.context, draw_keys={module.name: module.key for module in keyed})
            block.__class__ = _compiled(kind, self.backend)
        return True

    @contextmanager
    def running(self, adapted: Adapted, *, key: Hashable) -> Iterator[None]:
        """Run training steps with compiled blocks, as long as that stays within bounds.

        Args:
            key: What programs depend on beside the shapes of parameters.

        Raises:
            CompiledError: They failed; memory and devices fail as themselves.
        """
        if not self._admits((key, *sorted((name, p.shape) for name, p in adapted.bank.parameters.items()))):
            yield
            return
        adapted.context.compiled = True
        try:
            with _settings():
                yield
        except (torch.OutOfMemoryError, torch.AcceleratorError, CaptureError):
            raise
        except Exception as error:
            raise CompiledError(" ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]) from error
        finally:
            adapted.context.compiled = False

    def stop(self, error: CompiledError) -> None:
        """Compile no more, because of an error that does not come without it."""
        self.on = False
        self._say(f"resources.compile: blocks run uncompiled from now on, because compiling them failed: {error}")

    def _admits(self, shape: Hashable) -> bool:
        if not self.on:
            return False
        if shape not in self._shapes and len(self._shapes) >= MOST_SHAPES:
            self._say(f"resources.compile: {MOST_SHAPES} sets of lanes and shapes are compiled; further ones run uncompiled.")
            return False
        self._shapes.add(shape)
        return True

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning(sentence)


def compiler_of(wanted: object, *, device: torch.device) -> Compiler | None:
    """Return what `resources.compile` asks for; ``auto`` compiles on GPUs: on CPUs it hardly pays.

    Raises:
        ConfigError: It is neither ``auto`` nor a truth value.
    """
    if wanted != "auto" and not isinstance(wanted, bool):
        raise ConfigError(f"one of auto, true, false is needed, but got {wanted!r}.", path="resources.compile")
    return Compiler() if wanted is True or (wanted == "auto" and device.type == "cuda") else None


def why_not_compiled(adapted: Adapted) -> str:
    """Return why the blocks of an adapted model are not compiled, as the end of a sentence; empty where they are."""
    layout, blocks = adapted.layout, list(adapted.layout.role("block"))
    if layout.family not in FAMILIES:
        return f"it was tested on {', '.join(FAMILIES)} alone, and the backbone is of family {layout.family!r}"
    if any(place.name in adapted.sites for place in blocks):
        return "its deltas stand around whole blocks"
    if adapted.drops:
        return "its deltas have dropout inside"
    if adapted.methods[0].path_numbers(layout):
        return "it is a supernet"
    if any(hasattr(adapted.model.get_submodule(place.name), "lane_context") for place in blocks):
        return "its blocks run again in the backward pass (backbone.gradient_checkpointing)"
    return ""


@contextmanager
def _settings() -> Iterator[None]:
    """Let PyTorch keep as many programs as we bound ourselves, and gradients be taken twice of one graph (`ftp` does)."""
    import torch._dynamo.config as tracing
    import torch._functorch.config as differentiating

    limits = {"recompile_limit": MOST_PROGRAMS, "accumulated_recompile_limit": MOST_PROGRAMS}
    with cast(Any, tracing).patch(**limits), cast(Any, differentiating).patch(donated_buffer=False):
        yield


@cache
def _program(kind: type[nn.Module], backend: str | Callable[..., Any]) -> Callable[..., Any]:
    # Symbolic sizes were tried: tracing had not ended after minutes, where the few sizes that lanes come in take seconds each.
    return torch.compile(kind.forward, fullgraph=True, dynamic=False, backend=backend)


@cache
def _compiled(kind: Any, backend: str | Callable[..., Any]) -> Any:
    # A subclass and not a patched method: copies of the model then call themselves and not the original.
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        context: LaneContext = self.lane_context
        if not context.in_step:
            return kind.forward(self, *args, **kwargs)
        run = _program(kind, backend) if context.compiled else kind.forward
        with context.inside(self.draw_keys):
            return run(self, *args, **kwargs)

    return type(f"Compiled{kind.__name__}", (kind,), {"forward": forward, "__doc__": kind.__doc__})
