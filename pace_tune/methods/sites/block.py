"""Deltas that need more than a module's output: the residual stream, or the token axis."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pace_tune.errors import UnsupportedError
from pace_tune.methods.context import LaneContext
from pace_tune.methods.method import Delta
from pace_tune.methods.site import Plain, Site
from pace_tune.methods.sites.feature import FeatureDelta


class StreamSite(Site):
    """A pre-norm block with a delta parallel to its MLP: out = block(x) + z * f(stream before the MLP's norm).

    Args:
        norm: Name of that norm inside the block.
    """

    delta: FeatureDelta

    def __init__(self, name: str, base: nn.Module, delta: Delta, context: LaneContext, *, norm: str) -> None:
        super().__init__(name, base, delta, context)
        self.norm = norm

    @property
    def channels(self) -> int:
        """Width of the stream."""
        return self.delta.width

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block, and add what the delta makes of the stream in its middle."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(*args, **kwargs))
        seen: list[Tensor] = []
        # The hook lives as long as this call: nothing keeps the activations or comes along in a copy of the model.
        handle = self.base.get_submodule(self.norm).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            out: Tensor = self.base(*args, **kwargs)
        finally:
            handle.remove()
        stream_KTC = seen[0].reshape(self.context.lanes, -1, seen[0].shape[-1])
        return self.join(out, self.delta.lanes(stream_KTC, self.values_for(stream_KTC)))

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Refuse."""
        raise UnsupportedError(self.obstacle)


class TailSite(Site):
    """The end of a post-norm MLP, norm(dense(hidden) + stream), with a delta inside the sum.

    Args:
        reads_stream: f reads the stream (parallel to the MLP), else norm(dense(hidden) + stream) (after it).
    """

    delta: FeatureDelta

    def __init__(self, name: str, base: nn.Module, delta: Delta, context: LaneContext, *, reads_stream: bool) -> None:
        super().__init__(name, base, delta, context)
        self.reads_stream = reads_stream

    @property
    def channels(self) -> int:
        """Width of the stream."""
        return self.delta.width

    def forward(self, hidden: Tensor, stream: Tensor) -> Tensor:
        """Return norm(dense(hidden) + z * f + stream)."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(hidden, stream))
        base = self.base
        out: Tensor = base.dropout(base.dense(hidden))  # type: ignore[operator]
        norm = cast(nn.Module, base.LayerNorm)
        read = stream if self.reads_stream else norm(out + stream)
        read_KTC = read.reshape(self.context.lanes, -1, read.shape[-1])
        joined = self.join(out, self.delta.lanes(read_KTC, self.values_for(read_KTC)))
        return cast(Tensor, norm(joined + stream))

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Refuse."""
        raise UnsupportedError(self.obstacle)


class PromptDelta(Delta):
    """Tokens of its own for each lane.

    Args:
        count: p.
        width: Channels.
        bound: Start values are uniform in [-bound, bound].
    """

    mergeable = False
    why_not = "its prompts are tokens of their own"

    def __init__(self, *, count: int, width: int, bound: float, dropout: float = 0.0) -> None:
        self.count, self.width, self.bound, self.dropout = count, width, bound, dropout

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return random prompts."""
        return {"prompts": torch.empty(self.count, self.width).uniform_(-self.bound, self.bound, generator=generator)}


class PromptSite(Site):
    """A block, or the first of several, that attends to prompts beside its tokens.

    They stand after the tokens: where they stand changes nothing, because they carry no position. A path
    (K, p) says which of them a lane attends to.

    Args:
        strips: Whether the prompts' outputs end here, or go on through the next blocks.
    """

    delta: PromptDelta

    def __init__(self, name: str, base: nn.Module, delta: Delta, context: LaneContext, *, strips: bool = True) -> None:
        super().__init__(name, base, delta, context)
        self.strips = strips

    @property
    def channels(self) -> int:
        """C."""
        return self.delta.width

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map tokens (rows, T, C) to tokens of the same number, or p more."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(x, *args, **kwargs))
        long = torch.cat([x, self._prompts(x)], dim=1)
        args, kwargs = self._masked(x, args, kwargs)
        out: Tensor = self.base(long, *args, **kwargs)
        return out[:, : x.shape[1]] if self.strips else out

    def _prompts(self, x: Tensor) -> Tensor:
        prompts_KPC = self.values["prompts"].to(x.dtype)
        prompts_KRPC = prompts_KPC[:, None].expand(-1, self.context.rows, -1, -1)
        mask = self.context.dropout(self.name, tokens=self.context.rows * self.delta.count, width=self.delta.width, rate=self.delta.dropout)
        if mask is not None:
            prompts_KRPC = prompts_KRPC * mask.to(x.dtype).view(prompts_KRPC.shape)
        return self.alone(prompts_KRPC).flatten(0, 1)

    def _masked(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the block's other arguments with the attention mask, if it needs one, as wide as the longer sequence."""
        given = args[0] if args else kwargs.get("attention_mask", kwargs.get("attn_mask"))
        path_KP = self.context.path(self.name)
        if given is None and path_KP is None:
            return args, kwargs
        if given is not None and (not isinstance(given, Tensor) or given.ndim != 4):
            raise UnsupportedError(f"prompts need an attention mask of four axes, but {self.name} was given another kind.")
        mask = self._mask(x, given, path_KP)
        if args:
            return (mask, *args[1:]), kwargs
        return args, {**kwargs, "attn_mask" if "attn_mask" in kwargs or given is None else "attention_mask": mask}

    def _mask(self, x: Tensor, given: Tensor | None, path_KP: Tensor | None) -> Tensor:
        """Return what is added to attention scores: (rows, 1, 1 or T + p, T + p)."""
        if given is None:
            added = x.new_zeros(len(x), 1, 1, x.shape[1])
        elif given.dtype == torch.bool:
            added = torch.zeros_like(given, dtype=x.dtype).masked_fill(~given, torch.finfo(x.dtype).min)
        else:
            added = given
        queries = self.delta.count if added.shape[2] > 1 else 0
        added = F.pad(added, (0, self.delta.count, 0, queries))
        if path_KP is not None:
            off_KRP = (1 - path_KP.to(x.dtype))[:, None].expand(-1, self.context.rows, -1) * torch.finfo(x.dtype).min
            added = added + F.pad(off_KRP.flatten(0, 1), (x.shape[1], 0))[:, None, None]
        return added

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Refuse."""
        raise UnsupportedError(self.obstacle)


class NoDelta(Delta):
    """Nothing that trains."""

    mergeable = False
    why_not = PromptDelta.why_not

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return nothing."""
        return {}


class PromptEndSite(Site):
    """The block after which prompts that came through several blocks are dropped.

    Args:
        count: p.
    """

    noisy = False

    def __init__(self, name: str, base: nn.Module, delta: Delta, context: LaneContext, *, count: int) -> None:
        super().__init__(name, base, delta, context)
        self.count = count

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map T + p tokens to T."""
        out: Tensor = self.base(x, *args, **kwargs)
        return out[:, : x.shape[1] - self.count] if self.context.adapters_on else out

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Refuse."""
        raise UnsupportedError(self.obstacle)
