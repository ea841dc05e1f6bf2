"""What one forward pass means to the sites: how rows divide into lanes, what noise multiplies, which deltas are on.

Axes used in this package: K lane, V view, B sample, R = V*B rows of a lane, T token (everything between the row and
the channel), I input channel, O output channel, C class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pace_tune.methods.dropout import DropoutDraw

Joining = Literal["delta", "output", "add"]
"""What noise does at a site: multiply the delta (PACE), multiply base + delta, or be added to them."""


@dataclass(frozen=True)
class Draw:
    """The random numbers of one training step, drawn before the forward pass and only read by it.

    Attributes:
        noise: Site name -> z_KRO: a multiplier around 1, or an addend around 0. A site that is missing is not perturbed.
        drop_path: Module name -> multiplier m_KR of a residual branch.
        joining: How z enters.
        dropout: Dropout inside the deltas.
        paths: Site name -> which part of a supernet's delta is on, leading axis K.
    """

    noise: Mapping[str, Tensor] = field(default_factory=dict)
    drop_path: Mapping[str, Tensor] = field(default_factory=dict)
    joining: Joining = "delta"
    dropout: DropoutDraw | None = None
    paths: Mapping[str, Tensor] = field(default_factory=dict)

    def inside(self, keys: Mapping[str, str]) -> Draw:
        """Return the noise and masks of some modules by other names; dropout and paths go by whole names and are left out."""

        def own(numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {key: numbers[name] for name, key in keys.items() if name in numbers}

        return Draw(own(self.noise), own(self.drop_path), self.joining)


class LaneContext:
    """State that all sites of one adapted model read. One forward pass at a time.

    Attributes:
        lanes: K, the number of lanes that the rows of a batch divide into, lane-major.
        draw: The random numbers of the step in flight; None outside of a training step.
        rows: R, rows per lane at this point of the pass.
        adapters_on: False runs the frozen backbone (the head still works): the reference of FP-distance.
        paths: What of a supernet's deltas is on where the step draws none, by site.
        class_token_alone: Whether the pass in flight is for logits that read no other token of the last block.
        compiled: Whether blocks that can be compiled run compiled, in training steps.
    """

    def __init__(self) -> None:
        self.lanes = 1
        self.rows = 0
        self.draw: Draw | None = None
        self.adapters_on = True
        self.in_step = False
        self.class_token_alone = False
        self.paths: dict[str, Tensor] = {}
        self.compiled = False
        self._split: tuple[int, int] | None = None

    def noise(self, site: str) -> Tensor | None:
        """Return z_KRO for a site, or None where it is not perturbed."""
        return None if self.draw is None else self.draw.noise.get(site)

    @property
    def joining(self) -> Joining:
        """How the noise of the pass in flight enters."""
        return "delta" if self.draw is None else self.draw.joining

    def path(self, site: str) -> Tensor | None:
        """Return which part of a supernet's delta is on, or None where all of it is."""
        drawn = None if self.draw is None else self.draw.paths.get(site)
        return self.paths.get(site) if drawn is None else drawn

    def dropout(self, site: str, *, tokens: int, width: int, rate: float) -> Tensor | None:
        """Return multipliers (K, T, width) for `tokens` = T rows and tokens of a lane; None where nothing is dropped."""
        if not rate or self.draw is None or self.draw.dropout is None:
            return None
        return self.draw.dropout.mask(site, rows=self.rows, tokens=tokens // self.rows, width=width, rate=rate)

    def per_lane(self, x: Tensor) -> Tensor:
        """View x (rows, ..., channels) as x_KRTC. Windows and grids count as tokens of their sample.

        Swin runs attention with windows in the first axis, sample-major; they fold into T here, so that one draw is
        shared by all tokens of a sample, as the paper states it (section 3.5).
        """
        return x.reshape(self.lanes, self.rows, -1, x.shape[-1])

    @contextmanager
    def step(self, *, rows: int, draw: Draw | None = None, split: tuple[int, int] | None = None) -> Iterator[None]:
        """Run a forward pass with `rows` rows per lane and the given random numbers.

        Args:
            split: (level, V): rows become V views of themselves when the block of that level is entered. What lies
                before it carries no noise, so running it once for all views is exact.
        """
        self.rows, self.draw, self._split, self.in_step = rows, draw, split, True
        try:
            yield
        finally:
            self.draw, self._split, self.in_step = None, None, False

    def split_views(self, x: Tensor, *, level: int) -> Tensor:
        """Return x, with the rows of every lane repeated per view if they are to split at this level."""
        if self._split is None or self._split[0] != level:
            return x
        views, rows = self._split[1], self.rows
        self._split, self.rows = None, rows * views
        return repeat_views(x, lanes=self.lanes, views=views)

    @contextmanager
    def inside(self, keys: Mapping[str, str]) -> Iterator[None]:
        """Show the sites of a block their part of the draw: name -> name within the block."""
        whole = self.draw
        self.draw = None if whole is None else whole.inside(keys)
        try:
            yield
        finally:
            self.draw = whole

    @contextmanager
    def reading(self, *, class_token_alone: bool) -> Iterator[None]:
        """Run a pass of which the class token alone is read, or all of them."""
        before, self.class_token_alone = self.class_token_alone, class_token_alone
        try:
            yield
        finally:
            self.class_token_alone = before

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """Run the pretrained backbone under the trained heads: f(x; theta_0) with the head kept."""
        self.adapters_on = False
        try:
            yield
        finally:
            self.adapters_on = True


def lane_rows(tensor: Tensor, lanes: int) -> Tensor:
    """View (K*N, ...) as (K, N, ...)."""
    return tensor.reshape(lanes, -1, *tensor.shape[1:])


def repeat_views(tensor: Tensor, *, lanes: int, views: int) -> Tensor:
    """Return (K*V*N, ...) from (K*N, ...): every lane's rows, `views` times over."""
    per_lane = lane_rows(tensor, lanes)
    return per_lane[:, None].expand(-1, views, *per_lane.shape[1:]).reshape(-1, *tensor.shape[1:])


def corner(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the leading block of `shape`: the inverse of the padding in `stack_padded`."""
    return tensor[tuple(slice(0, n) for n in shape)]


def generator(seed: int, *, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of its own, seeded."""
    return torch.Generator(device=device).manual_seed(seed)
