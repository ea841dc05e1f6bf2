"""Full training of modules that are not linear layers, as deltas of their parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from pace_tune.errors import UnsupportedError
from pace_tune.methods.method import Delta
from pace_tune.methods.site import Plain, Site


class ModuleDelta(Delta):
    """An additive delta of every parameter that a module holds itself (not its children)."""

    def __init__(self, base: nn.Module) -> None:
        self.shapes = {key: tuple(p.shape) for key, p in base.named_parameters(recurse=False)}

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return zeros: the model starts as the pretrained one."""
        return {key: torch.zeros(shape) for key, shape in self.shapes.items()}


class ModuleSite(Site):
    """Any frozen module whose own parameters each lane shifts: norms, convolutions, embeddings.

    Noise does not reach it.
    """

    delta: ModuleDelta
    noisy = False

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the module with shifted parameters, lane by lane under one `vmap`."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(*args, **kwargs))
        own = dict(self.base.named_parameters(recurse=False))

        def one_lane(values: dict[str, Tensor], *inputs: Tensor) -> Tensor:
            moved = {key: own[key] + value.to(own[key].dtype) for key, value in values.items() if key in own}
            return cast(Tensor, functional_call(self.base, moved, inputs, kwargs))

        lanes = self.context.lanes
        if any(True for _ in self.base.children()):
            if lanes > 1:
                raise UnsupportedError(f"{self.name} holds parameters beside modules, so that its lanes must run alone.")
            return one_lane(self.of_lane(0), *args)
        lifted = vmap(one_lane)(self.values, *(self._per_lane(x) for x in args))
        return lifted.flatten(0, 1)

    def _per_lane(self, x: Tensor) -> Tensor:
        rows = self.context.lanes * self.context.rows
        if len(x) == 1 != rows:  # positions, say: one row for all
            x = x.expand(rows, *x.shape[1:])
        return x.reshape(self.context.lanes, -1, *x.shape[1:])

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Return the module with its parameters shifted."""
        plain = copy.deepcopy(self.base, dict(inner))
        with torch.no_grad():
            for key, value in self.of_lane(lane).items():
                if key in self.delta.shapes:
                    plain.get_parameter(key).add_(value)
        return plain


class LookupSite(ModuleSite):
    """An embedding table that each lane shifts; only the rows that are looked up are touched."""

    base: nn.Embedding

    def forward(self, index: Tensor) -> Tensor:
        """Return base(index) + each lane's delta of those rows."""
        out: Tensor = self.base(index)
        if not self.context.adapters_on:
            return out
        rows_KN = self._per_lane(index).flatten(1)
        delta_KVC = self.values["weight"].to(out.dtype)
        first_K1 = torch.arange(len(delta_KVC), device=index.device)[:, None] * delta_KVC.shape[1]
        found_KNC = F.embedding(rows_KN + first_K1, delta_KVC.flatten(0, 1))
        if self.base.padding_idx is not None:  # as in the table itself, that row gets no gradient
            found_KNC = torch.where((rows_KN == self.base.padding_idx)[:, :, None], found_KNC.detach(), found_KNC)
        shape = (len(delta_KVC) * self.context.rows, *index.shape[1:], -1) if len(index) == 1 else (*index.shape, -1)
        return out + found_KNC.reshape(shape)


class EmbedDelta(Delta):
    """Deltas of parameters that the model itself adds to its tokens: position embedding and class token.

    Args:
        parameters: What they are -> the parameters, (1, T, C) each.
        names: What they are -> their names in the model.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, names: Mapping[str, str]) -> None:
        self.shapes = {key: tuple(p.shape[1:]) for key, p in parameters.items()}
        self.names = dict(names)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return zeros."""
        return {key: torch.zeros(shape) for key, shape in self.shapes.items()}


class EmbedSite(Site):
    """The module right after the position embedding of a ViT. Merging adds to the model's own parameters."""

    delta: EmbedDelta
    noisy = False

    def forward(self, x: Tensor) -> Tensor:
        """Add the lanes' deltas to the embedded tokens (rows, T, C)."""
        x = self.base(x)
        if not self.context.adapters_on:
            return x
        x_KRTC = x.reshape(self.context.lanes, -1, *x.shape[1:])
        values = {key: value.to(x.dtype) for key, value in self.values.items() if key in self.delta.shapes}
        shift_KTC = values["pos_embed"] if "pos_embed" in values else torch.zeros_like(x_KRTC[:, 0])
        if "cls_token" in values:
            shift_KTC = shift_KTC + F.pad(values["cls_token"], (0, 0, 0, x.shape[1] - 1))
        return (x_KRTC + shift_KTC[:, None]).flatten(0, 1)

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Return the wrapped module; `fold` puts the deltas where they belong."""
        return copy.deepcopy(self.base, dict(inner))

    def fold(self, model: nn.Module, lane: int) -> None:
        """Add one lane's deltas to the model's position embedding and class token."""
        with torch.no_grad():
            for key, value in self.of_lane(lane).items():
                if key in self.delta.names:
                    model.get_parameter(self.delta.names[key]).add_(value)
