"""Deltas of a module's output: delta = f(base(x))."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F

from pace_tune.methods.layout import Place
from pace_tune.methods.method import Delta, Tensors
from pace_tune.methods.site import Plain, Site


class FeatureDelta(Delta):
    """f of the output of a module, token by token. Where f is affine it can be folded away.

    Attributes:
        width: Channels.
    """

    mergeable = False
    why_not = "its function of the features is not affine"

    def __init__(self, width: int) -> None:
        self.width = width

    @abstractmethod
    def forward(self, x_TC: Tensor, parameters: Tensors) -> Tensor:
        """Return f(x) of one lane, (T, C) or (1, C) where it does not depend on x."""

    def lanes(self, x_KTC: Tensor, parameters: Tensors) -> Tensor:
        """Return f(x) of all lanes. The lifted form is right for every f and the oracle of hand-written ones."""
        return vmap(self.forward)(x_KTC, dict(parameters))


class ScaleShiftDelta(FeatureDelta):
    """f(x) = scale * x + shift per channel; folds into the module before it.

    Args:
        scales: Whether there is a scale.
        shifts: Whether there is a shift; only where the module has a bias that can take it.
    """

    mergeable = True

    def __init__(self, width: int, *, scales: bool = True, shifts: bool = True, std: float = 0.0) -> None:
        super().__init__(width)
        self.keys = [key for key, on in (("scale", scales), ("shift", shifts)) if on]
        self.std = std

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return normal numbers of the given deviation."""
        return {key: self.std * torch.randn(self.width, generator=generator) for key in self.keys}

    def forward(self, x_TC: Tensor, parameters: Tensors) -> Tensor:
        """Return scale * x + shift."""
        shift = parameters["shift"][None] if "shift" in parameters else None
        if "scale" not in parameters:
            return x_TC.new_zeros(1, self.width) if shift is None else shift
        return x_TC * parameters["scale"] if shift is None else torch.addcmul(shift, x_TC, parameters["scale"])

    def lanes(self, x_KTC: Tensor, parameters: Tensors) -> Tensor:
        """Return the same for all lanes: every operation broadcasts."""
        return self.forward(x_KTC, {key: parameters[key][:, None] for key in self.keys}).view(len(x_KTC), -1, self.width)

    def fold_into(self, module: nn.Module, parameters: Tensors) -> None:
        """Make a norm, linear layer or convolution give (1 + scale) * y + shift instead of y."""
        weight, bias = module.weight, getattr(module, "bias", None)
        assert isinstance(weight, Tensor)
        if "scale" in self.keys:
            factor = 1 + parameters["scale"]
            weight.mul_(factor.view(-1, *[1] * (weight.ndim - 1)))
            if bias is not None:
                bias.mul_(factor)
        if "shift" in self.keys:
            assert bias is not None
            bias.add_(parameters["shift"])


class AffineDelta(FeatureDelta):
    """f(x) = M x + c; folds into the linear layers that read x.

    Args:
        readers: Those layers.
    """

    def __init__(self, width: int, *, readers: Sequence[Place]) -> None:
        super().__init__(width)
        self.readers = tuple(reader.name for reader in readers)
        stiff = next((reader.name for reader in readers if reader.linear.bias is None), "")
        self.mergeable = not stiff
        self.why_not = f"{stiff} has no bias that could take its shift"

    def forward(self, x_TC: Tensor, parameters: Tensors) -> Tensor:
        """Return M x + c."""
        matrix, shift = self.affine(parameters)
        return F.linear(x_TC, matrix, shift)

    @abstractmethod
    def affine(self, parameters: Tensors) -> tuple[Tensor, Tensor]:
        """Return (M_CC, c_C) of one lane."""


class FeatureSite(Site):
    """Any frozen module with one output, and a delta of that output."""

    delta: FeatureDelta

    @property
    def channels(self) -> int:
        """C."""
        return self.delta.width

    def forward(self, *args: Tensor) -> Tensor:
        """Return base(x) + z * f(base(x)) in the base's shape."""
        out: Tensor = self.base(*args)
        if not self.context.adapters_on:
            return out
        if isinstance(self.base, nn.Conv2d):  # (rows, C, H, W)
            return self._joined(out.movedim(1, -1)).movedim(-1, 1)
        return self._joined(out)

    def _joined(self, out: Tensor) -> Tensor:
        out_KTC = out.reshape(self.context.lanes, -1, out.shape[-1])
        return self.join(out, self.delta.lanes(out_KTC, self.values_for(out_KTC)))

    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Return the module, with the delta in its own weights if f is diagonal."""
        plain = copy.deepcopy(self.base, dict(inner))
        if isinstance(self.delta, ScaleShiftDelta):
            with torch.no_grad():
                self.delta.fold_into(plain, self.of_lane(lane))
        return plain

    def fold(self, model: nn.Module, lane: int) -> None:
        """Fold an affine f into its readers: W <- W (I + M), b <- b + W c."""
        if not isinstance(self.delta, AffineDelta):
            return
        with torch.no_grad():
            matrix, shift = self.delta.affine(self.of_lane(lane))
            for name in self.delta.readers:
                reader = cast(nn.Linear, model.get_submodule(name))
                assert reader.bias is not None
                reader.bias.add_(reader.weight @ shift)
                reader.weight.add_(reader.weight @ matrix)
