"""NOAH: prompts, LoRA and adapters, with the widths and depths of each found by search (Zhang et al., TPAMI 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pace_tune.methods.bottleneck import BottleneckDelta
from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.lora import LoraDelta
from pace_tune.methods.method import Delta, Placement
from pace_tune.methods.sites.block import PromptDelta
from pace_tune.methods.supernet import Options, Supernet, picked
from pace_tune.methods.targets import targets_of
from pace_tune.methods.vpt_deep import CAUSAL, WINDOWS, block_width
from pace_tune.registry import methods

Kind = Literal["vpt", "lora", "adapter"]
KINDS: tuple[Kind, ...] = ("vpt", "lora", "adapter")


@methods.register("noah")
class Noah(Supernet):
    """Prompts before, LoRA in the attention of and an adapter after the MLP of each block.

    Each kind is present in the blocks up to a depth, with a width of its own in each of them.
    """

    paper: ClassVar[str] = "Zhang et al. 2024 (NOAH)"
    identity_at_start: ClassVar[bool] = False
    refused: ClassVar[dict[str, str]] = {"swin": WINDOWS, "phi3": CAUSAL, "llama": CAUSAL}

    widths: tuple[int, ...] = Field(default=(1, 5, 10), min_length=1, description="Widths to choose from; 5, 10, 50, 100 for few-shot.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="In all three kinds, in training.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return the deltas of every block: at their chosen widths, or at the largest in the supernet."""
        widths = None if self.way is None else self._widths(layout, self.way)
        for kind, level, place in self._places(layout):
            width = max(self.widths) if widths is None else widths[kind][level]
            if width:
                yield Placement(place, self._delta(layout, kind, place, width))

    def choices(self, layout: Layout) -> Options:
        """Return a depth for each kind, and a width for each kind and block."""
        depths = tuple(sorted({-(-layout.depth * quarter // 4) for quarter in (1, 2, 3, 4)}))
        options: dict[str, tuple[int, ...]] = {}
        for kind in KINDS:
            options |= {f"{kind}.depth": depths, **{f"{kind}.{level}": self.widths for level in range(layout.depth)}}
        return options

    def paths(self, layout: Layout, numbers_KN: Tensor) -> dict[str, Tensor]:
        """Return for each site which of its units are on."""
        options = self.choices(layout)
        columns = {key: i for i, key in enumerate(options)}
        units = torch.arange(max(self.widths), device=numbers_KN.device)
        paths = {}
        for kind, level, place in self._places(layout):
            depth_K = picked(numbers_KN[:, columns[f"{kind}.depth"]], [int(option) for option in options[f"{kind}.depth"]])
            width_K = picked(numbers_KN[:, columns[f"{kind}.{level}"]], self.widths)
            paths[place.name] = (units < (width_K * (level < depth_K))[:, None]).to(numbers_KN.dtype)
        return paths

    def kept(self, whole: Tensor, *, shape: tuple[int, ...]) -> Tensor:
        """Return the first units; published runs train the winner again from the start."""
        return whole[tuple(slice(0, size) for size in shape)].clone()

    def _widths(self, layout: Layout, choice: str) -> dict[Kind, list[int]]:
        chosen = {key: int(option) for key, option in self.chosen(layout, choice).items()}
        return {
            kind: [chosen[f"{kind}.{level}"] if level < chosen[f"{kind}.depth"] else 0 for level in range(layout.depth)] for kind in KINDS
        }

    def _places(self, layout: Layout) -> Iterator[tuple[Kind, int, Place]]:
        for block in layout.require_role("block", method=self.name):
            yield "vpt", block.level, block
        for target in targets_of(layout, "qkv", method=self.name):
            yield "lora", target.place.level, target.place
        for place in layout.require_role("mlp_out", method=self.name):
            yield "adapter", place.level, place

    def _delta(self, layout: Layout, kind: Kind, place: Place, width: int) -> Delta:
        if kind == "lora":
            return LoraDelta(place.linear, rank=width, dropout=self.dropout)
        if kind == "adapter":
            channels = place.linear.out_features
            return BottleneckDelta(channels, hidden=width, activation="quick_gelu", start="xavier", dropout=self.dropout)
        channels = block_width(layout, place)
        return PromptDelta(count=width, width=channels, bound=(6 / (width + channels)) ** 0.5, dropout=self.dropout)
