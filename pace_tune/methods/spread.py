"""Frozen weights that are spread over processes, and here only while something reads them.

Whoever spreads them (`pace_tune.training.sharding`) marks each parameter with what brings it. A block brings its weights when it
runs, forward or backward; what reads weights at other times asks for them here. Weights that are whole are always here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

from torch import Tensor, nn

_MARK = "_spread_in"


class Spread(Protocol):
    """Weights that come and go together."""

    def bring(self) -> None:
        """Have them here until others are brought. All processes do so in the same order."""


def mark(parameter: nn.Parameter, spread: Spread) -> None:
    """Say what brings a parameter."""
    setattr(parameter, _MARK, spread)


def bring(module: nn.Module) -> None:
    """Have a module's own weights here, until others are brought."""
    for spread in _of(module):
        spread.bring()


def bring_again(module: nn.Module, made: Tensor) -> Tensor:
    """Return what was made of a module's weights, so that they are here when it is differentiated."""
    for spread in _of(module) if made.requires_grad else ():

        def back(_: Tensor, spread: Spread = spread) -> None:
            spread.bring()

        made.register_hook(back)
    return made


def is_spread(module: nn.Module) -> bool:
    """Whether weights of a module are spread over processes."""
    return any(True for _ in _of(module))


def _of(module: nn.Module) -> Iterator[Spread]:
    found = {id(spread): spread for p in module.parameters() if (spread := getattr(p, _MARK, None)) is not None}
    yield from (cast(Spread, spread) for spread in found.values())
