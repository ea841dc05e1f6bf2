"""Layers of the `peft` library as sites: out = base(x) + z * (tuner(x) - base(x))."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pace_tune.errors import UnsupportedError
from pace_tune.methods.context import LaneContext
from pace_tune.methods.method import Delta
from pace_tune.methods.site import Plain, Site
from pace_tune.methods.spread import bring


class TunerDelta(Delta):
    """What a layer of peft makes of its parameters. One lane only.

    Args:
        tuner: Gives the layer, around the frozen one, when a site needs it.
        start: Gives the layer's trainable parameters by name, drawn with a generator.
        shared: Own parameter -> name of the one that several layers hold in common.
    """

    def __init__(
        self,
        tuner: Callable[[], nn.Module],
        *,
        start: Callable[[torch.Generator], dict[str, Tensor]],
        shared: Callable[[], dict[str, str]],
        why_not: str = "",
        mixes_tokens: bool = False,
    ) -> None:
        self.tuner, self._start, self._shared, self.mixes_tokens = tuner, start, shared, mixes_tokens
        self.mergeable, self.why_not = not why_not, why_not

    @property
    def shared(self) -> dict[str, str]:  # type: ignore[override]
        """Own parameter -> name of the one that several layers hold in common."""
        return self._shared()

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return peft's start values."""
        return self._start(generator)


class TunerSite(Site):
    """A frozen layer inside a peft layer."""

    delta: TunerDelta

    def __init__(self, name: str, base: nn.Module, delta: Delta, context: LaneContext) -> None:
        super().__init__(name, base, delta, context)
        # Kept out of the module tree: its parameters are only the shape of those in the bank.
        self._tuner = (self.delta.tuner(),)

    @property
    def channels(self) -> int:
        """Channels of the frozen layer's output."""
        return len(cast(Tensor, self.base.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Return base(x) + z * (tuner(x) - base(x))."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(x))
        if self.context.lanes != 1:
            raise UnsupportedError("peft's layers run alone, not in lanes.")
        # Some of peft's layers take (rows, tokens, channels) and nothing else.
        tokens = x.reshape(len(x), -1, x.shape[-1])
        out: Tensor = functional_call(self._tuner[0], self._of_one_lane(x), (tokens,))
        if self.context.noise(self.key) is None:
            return out.reshape(*x.shape[:-1], -1)
        base = self.base(x)
        return self.join(base, (out - base.reshape(out.shape)).reshape(1, -1, out.shape[-1]))

    def _of_one_lane(self, x: Tensor) -> dict[str, Tensor]:
        return {key: value[0].to(x.dtype) for key, value in self.values.items()}

    def changes(self) -> Iterator[Tensor]:
        """Yield what peft's merged layer has more than the frozen one. It cannot be differentiated.

        Raises:
            UnsupportedError: A gradient is wanted.
        """
        if torch.is_grad_enabled():
            raise UnsupportedError(f"a penalty on weights does not reach {self.name}: peft's layers do not say how their weights change.")
        if self.delta.mergeable:
            bring(self.base)
            frozen = dict(self.base.named_parameters(recurse=False))
            merged = self.merged(0, {}).named_parameters(recurse=False)
            yield from ((parameter - frozen[key])[None] for key, parameter in merged)

    def frozen_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what is random and frozen in peft's layer, by name."""
        yield from ((key, buffer) for key, buffer in self._tuner[0].named_buffers() if not key.startswith("base_layer."))

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Return the frozen layer with what peft merges into it."""
        tuner: Any = copy.deepcopy(self._tuner[0])
        with torch.no_grad():
            for key, value in self.of_lane(lane).items():
                tuner.get_parameter(key).copy_(value)
            tuner.merge()
        plain: nn.Module = tuner.get_base_layer()
        return plain

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TunerSite:
        self._tuner[0]._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
