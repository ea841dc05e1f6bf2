"""Sites: the places where a delta joins the frozen model, out = base(x) + z * delta(x).

Noise lives here and nowhere else: a delta never sees it. See the axis legend in `context.py`.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from pace_tune.errors import UnsupportedError
from pace_tune.methods.context import LaneContext
from pace_tune.methods.method import Delta, LinearDelta


class Site(nn.Module):
    """A wrapped module with one set of delta parameters per lane.

    Args:
        name: The wrapped module's name in the model; also the key of its noise.
        base: The wrapped module, frozen.
        delta: How the delta is made.

    Attributes:
        noisy: Whether noise multiplies the delta; the paper perturbs linear layers only.
    """

    noisy: ClassVar[bool] = True

    def __init__(self, name: str, base: nn.Module, delta: Delta, context: LaneContext) -> None:
        super().__init__()
        self.name, self.base, self.delta, self.context = name, base, delta, context
        self.scalars: dict[str, Tensor] = {}

    def bind(self, parameters: Mapping[str, nn.Parameter], scalars: Mapping[str, Tensor]) -> None:
        """Use these parameters, each with a leading lane axis, from now on."""
        for key, parameter in parameters.items():
            self._parameters[key] = parameter
        self.scalars = dict(scalars)

    @property
    def values(self) -> dict[str, Tensor]:
        """Parameters and scalars by name, leading axis K."""
        return {**cast("dict[str, Tensor]", self._parameters), **self.scalars}

    @property
    def channels(self) -> int:
        """Number of channels of the output: the width of its noise."""
        raise NotImplementedError

    def of_lane(self, lane: int) -> dict[str, Tensor]:
        """Return one lane's values, without the leading axis."""
        return {key: value[lane] for key, value in self.values.items()}

    def join(self, base: Tensor, delta_KTO: Tensor) -> Tensor:
        """Return base + z * delta in the shape of `base`. A delta with T = 1 is the same for all tokens."""
        noise_KRO = self.context.noise(self.name)
        rows = self.context.rows
        base_KRTO = self.context.per_lane(base)
        constant = delta_KTO.shape[1] == 1
        delta_KRTO = delta_KTO[:, None].expand(-1, rows, 1, -1) if constant else delta_KTO.reshape(base_KRTO.shape)
        if noise_KRO is None:
            return (base_KRTO + delta_KRTO).reshape(base.shape)
        return self._perturbed(base_KRTO, delta_KRTO, noise_KRO[:, :, None]).reshape(base.shape)

    def _perturbed(self, base: Tensor, delta: Tensor, noise: Tensor) -> Tensor:
        if self.context.joining == "output":
            return noise * (base + delta)
        if self.context.joining == "add":
            return base + delta + noise
        return torch.addcmul(base, noise, delta)

    @abstractmethod
    def merged(self, lane: int) -> nn.Module:
        """Return a plain module that computes the same as this site for one lane, without noise."""


class LinearSite(Site):
    """A frozen `nn.Linear` and its delta."""

    base: nn.Linear
    delta: LinearDelta

    @property
    def channels(self) -> int:
        """O."""
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map x (rows, ..., I) to (rows, ..., O)."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(x))
        x_KTI = x.reshape(self.context.lanes, -1, x.shape[-1])
        if self.delta.dense and self.context.noise(self.name) is None:
            return self._one_product(x_KTI).reshape(*x.shape[:-1], -1)
        return self.join(self.base(x), self.delta.lanes(x_KTI, self.values))

    def _one_product(self, x_KTI: Tensor) -> Tensor:
        weight, bias = self._effective()
        if bias is None:
            return torch.bmm(x_KTI, weight.mT)
        return torch.baddbmm(bias[:, None], x_KTI, weight.mT)

    def _effective(self) -> tuple[Tensor, Tensor | None]:
        lanes = self.context.lanes
        change, shift = self.delta.weights_lanes(self.values)
        weight = self.base.weight.expand(lanes, -1, -1) if change is None else self.base.weight + change
        if self.base.bias is None:
            return weight, shift
        return weight, self.base.bias.expand(lanes, -1) if shift is None else self.base.bias + shift

    def merged(self, lane: int) -> nn.Linear:
        """Return `nn.Linear` with W0 + dW and b0 + db.

        Raises:
            UnsupportedError: The delta adds a bias to a layer that has none.
        """
        with torch.no_grad():
            weight, bias = self.delta.weights(self.of_lane(lane))
            if bias is not None and self.base.bias is None and bool(bias.any()):
                raise UnsupportedError(f"{self.name} has no bias, but its delta adds one: a merged checkpoint could not store it.")
            plain = copy.deepcopy(self.base)
            if weight is not None:
                plain.weight.add_(weight)
            if bias is not None and plain.bias is not None:
                plain.bias.add_(bias)
        return plain


class HeadDelta(LinearDelta):
    """The head's weight and bias, trained fully: a delta over a base of zero."""

    def __init__(self, base: nn.Linear, *, keep: bool = False) -> None:
        super().__init__(base)
        self.keep = keep

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return PyTorch's default initialisation of `nn.Linear`, or the present weights if `keep`."""
        if self.keep:
            start = {"weight": self.weight.detach().clone()}
            return start if self.bias is None else {**start, "bias": self.bias.detach().clone()}
        bound = self.in_features**-0.5
        start = {"weight": torch.empty(self.out_features, self.in_features).uniform_(-bound, bound, generator=generator)}
        if self.bias is not None:
            start["bias"] = torch.empty(self.out_features).uniform_(-bound, bound, generator=generator)
        return start

    def weights(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Return the head itself."""
        return parameters["weight"], parameters.get("bias")

    def lanes(self, x_KTI: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the logits of all lanes."""
        weight_KIO = parameters["weight"].mT
        if "bias" not in parameters:
            return torch.bmm(x_KTI, weight_KIO)
        return torch.baddbmm(parameters["bias"][:, None], x_KTI, weight_KIO)


class HeadSite(Site):
    """The classification head: base zero, so noise multiplies the logits themselves, bias included."""

    base: nn.Linear
    delta: HeadDelta

    @property
    def channels(self) -> int:
        """Number of logits."""
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map features (rows, ..., I) to logits (rows, ..., C)."""
        x_KTI = x.reshape(self.context.lanes, -1, x.shape[-1])
        logits_KTC = self.delta.lanes(x_KTI, self.values)
        noise_KRO = self.context.noise(self.name)
        if noise_KRO is not None:
            logits_KRTC = self.context.per_lane(logits_KTC.flatten(0, 1))
            logits_KTC = self._perturbed(torch.zeros_like(logits_KRTC), logits_KRTC, noise_KRO[:, :, None]).flatten(1, 2)
        return logits_KTC.reshape(*x.shape[:-1], -1)

    def merged(self, lane: int) -> nn.Linear:
        """Return the trained head as `nn.Linear`."""
        plain = copy.deepcopy(self.base)
        with torch.no_grad():
            weight, bias = self.delta.weights(self.of_lane(lane))
            plain.weight.copy_(cast(Tensor, weight))
            if bias is not None:
                plain.bias.copy_(bias)
        return plain


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

    noisy = False

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the module with shifted parameters, lane by lane under one `vmap`."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(*args, **kwargs))
        own = dict(self.base.named_parameters(recurse=False))

        def one_lane(values: dict[str, Tensor], *inputs: Tensor) -> Tensor:
            return cast(Tensor, functional_call(self.base, {k: own[k] + v for k, v in values.items()}, inputs, kwargs))

        lanes = self.context.lanes
        lifted = vmap(one_lane)(self.values, *(x.reshape(lanes, -1, *x.shape[1:]) for x in args))
        return lifted.flatten(0, 1)

    def merged(self, lane: int) -> nn.Module:
        """Return the module with its parameters shifted."""
        plain = copy.deepcopy(self.base)
        with torch.no_grad():
            for key, value in self.of_lane(lane).items():
                plain.get_parameter(key).add_(value)
        return plain


class EmbedDelta(Delta):
    """Deltas of parameters that the model itself adds to its tokens: position embedding and class token."""

    def __init__(self, model: nn.Module) -> None:
        self.shapes = {key: tuple(p.shape[1:]) for key, p in model.named_parameters(recurse=False)}

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return zeros."""
        return {key: torch.zeros(shape) for key, shape in self.shapes.items()}


class EmbedSite(Site):
    """The module right after the position embedding of a timm ViT. Merging adds to the model's own parameters."""

    noisy = False

    def forward(self, x: Tensor) -> Tensor:
        """Add the lanes' deltas to the embedded tokens (rows, T, C)."""
        x = self.base(x)
        if not self.context.adapters_on:
            return x
        x_KRTC = x.reshape(self.context.lanes, -1, *x.shape[1:])
        values = self.values
        shift_KTC = values["pos_embed"] if "pos_embed" in values else torch.zeros_like(x_KRTC[:, 0])
        if "cls_token" in values:
            shift_KTC = shift_KTC + F.pad(values["cls_token"], (0, 0, 0, x.shape[1] - 1))
        return (x_KRTC + shift_KTC[:, None]).flatten(0, 1)

    def merged(self, lane: int) -> nn.Module:
        """Return the wrapped module; `fold` puts the deltas where they belong."""
        return self.base

    def fold(self, model: nn.Module, lane: int) -> None:
        """Add one lane's deltas to the model's position embedding and class token."""
        with torch.no_grad():
            for key, value in self.of_lane(lane).items():
                model.get_parameter(key).add_(value)


def site_for(delta: Delta) -> type[Site]:
    """Return the kind of site that a kind of delta needs."""
    kinds: tuple[tuple[type, type[Site]], ...] = (
        (HeadDelta, HeadSite),
        (LinearDelta, LinearSite),
        (ModuleDelta, ModuleSite),
        (EmbedDelta, EmbedSite),
    )
    return next(site for kind, site in kinds if isinstance(delta, kind))
