"""Sites: the places where a delta joins the frozen model, out = base(x) + z * delta(x).

Noise lives here and nowhere else: a delta never sees it. See the axis legend in `context.py`. The other kinds of
sites are in `sites/`.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from pace_tune.methods import fused
from pace_tune.methods.context import LaneContext
from pace_tune.methods.method import Delta, LinearDelta
from pace_tune.methods.spread import bring, bring_again

Plain = Mapping[int, nn.Module]
_LANES = "lanes_"


class Site(nn.Module):
    """A wrapped module with one set of delta parameters per lane.

    Args:
        name: The wrapped module's name in the model; also the key of its noise.
        base: The wrapped module, frozen.
        delta: How the delta is made.

    Attributes:
        noisy: Whether noise multiplies the delta; the paper perturbs linear layers only.
        key: By which it finds its numbers in a step's draw: its name, or in a compiled block what that adds to the block's.
    """

    noisy: ClassVar[bool] = True

    def __init__(self, name: str, base: nn.Module, delta: Delta, context: LaneContext) -> None:
        super().__init__()
        self.name, self.base, self.delta, self.context = name, base, delta, context
        self.key = name
        self.scalars: dict[str, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        """Answer for the wrapped module: models read ``norm.weight`` and names lead through wrapped blocks."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            base = self.__dict__.get("_modules", {}).get("base")
            if base is None:
                raise
            return getattr(base, name)

    def bind(self, parameters: Mapping[str, nn.Parameter], scalars: Mapping[str, Tensor]) -> None:
        """Use these parameters, each with a leading lane axis, from now on."""
        for key, parameter in parameters.items():
            # Not under its own name: `site.weight` has to be the frozen weight, because models ask for it.
            self._parameters[f"{_LANES}{key}"] = parameter
        self.scalars = dict(scalars)

    @property
    def values(self) -> dict[str, Tensor]:
        """Parameters, scalars and the path of a supernet by name, leading axis K."""
        path = self.context.path(self.key)
        own = {key.removeprefix(_LANES): cast(Tensor, parameter) for key, parameter in self._parameters.items()}
        return {**own, **self.scalars, **({} if path is None else {"path": path})}

    def values_for(self, x_KTC: Tensor) -> dict[str, Tensor]:
        """Return the values in the floating-point type of x, with the dropout mask of this step if there is one."""
        values = {key: value.to(x_KTC.dtype) for key, value in self.values.items()}
        if self.delta.dropout:
            width = self.delta.mask_width(values)
            mask = self.context.dropout(self.key, tokens=x_KTC.shape[1], width=width, rate=self.delta.dropout)
            if mask is not None:
                values["mask"] = mask.to(x_KTC.dtype)
        return values

    @property
    def obstacle(self) -> str:
        """Why this site cannot be merged; empty where it can."""
        return "" if self.delta.mergeable else self.delta.why_not

    @property
    def channels(self) -> int:
        """Number of channels of the output: the width of its noise."""
        raise NotImplementedError

    def of_lane(self, lane: int) -> dict[str, Tensor]:
        """Return one lane's values, without the leading axis."""
        return {key: value[lane] for key, value in self.values.items()}

    def join(self, base: Tensor, delta_KTO: Tensor) -> Tensor:
        """Return base + z * delta in the shape of `base`. A delta with T = 1 is the same for all tokens."""
        noise_KRO = self.context.noise(self.key)
        rows = self.context.rows
        base_KRTO = self.context.per_lane(base)
        constant = delta_KTO.shape[1] == 1
        delta_KRTO = delta_KTO[:, None].expand(-1, rows, 1, -1) if constant else delta_KTO.reshape(base_KRTO.shape)
        if noise_KRO is None:
            return (base_KRTO + delta_KRTO).reshape(base.shape)
        return self._perturbed(base_KRTO, delta_KRTO, noise_KRO[:, :, None].to(base.dtype)).reshape(base.shape)

    def alone(self, delta_KRTO: Tensor) -> Tensor:
        """Return z * delta, of a delta over a base of zero."""
        noise_KRO = self.context.noise(self.key)
        if noise_KRO is None:
            return delta_KRTO
        return self._perturbed(torch.zeros_like(delta_KRTO), delta_KRTO, noise_KRO[:, :, None].to(delta_KRTO.dtype))

    def _perturbed(self, base: Tensor, delta: Tensor, noise: Tensor) -> Tensor:
        if self.context.joining == "output":
            return noise * (base + delta)
        if self.context.joining == "add":
            return base + delta + noise
        return torch.addcmul(base, noise, delta)

    def changes(self) -> Iterator[Tensor]:
        """Yield what the delta changes, theta - theta_0 part by part, (K, ...) each; here, its parameters."""
        yield from self.parameters(recurse=False)

    @abstractmethod
    def merged(self, lane: int, inner: Plain) -> nn.Module:
        """Return a plain module that computes the same as this site for one lane, without noise.

        Args:
            inner: Sites inside this one (by id) -> the plain modules that take their places.
        """

    def fold(self, model: nn.Module, lane: int) -> None:
        """Put what `merged` could not hold into other modules of the merged model."""


class LinearSite(Site):
    """A frozen `nn.Linear` and its delta.

    Attributes:
        fuses: False always takes the plain form, the oracle of the fused ones.
    """

    base: nn.Linear
    delta: LinearDelta
    fuses: ClassVar[bool] = True

    @property
    def channels(self) -> int:
        """O."""
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map x (rows, ..., I) to (rows, ..., O)."""
        if not self.context.adapters_on:
            return cast(Tensor, self.base(x))
        x_KTI = x.reshape(self.context.lanes, -1, x.shape[-1])
        # In half precision W0 + dW would round small changes away; there the products stay apart.
        if self.delta.dense and self.context.noise(self.key) is None and x.dtype in (torch.float32, torch.float64):
            return self._one_product(x_KTI).reshape(*x.shape[:-1], -1)
        together = self._fused(x_KTI)
        if together is not None:
            return together.reshape(*x.shape[:-1], -1)
        return self.join(self.base(x), self.delta.lanes(x_KTI, self.values_for(x_KTI)))

    def _fused(self, x_KTI: Tensor) -> Tensor | None:
        """Return base(x) + z * delta(x) as one operation, or None where the plain form is needed or faster."""
        z_KRO = self.context.noise(self.key)
        # Derivatives by the noise itself are the theory's business, and no one else's.
        if not self.fuses or self.context.joining != "delta" or (z_KRO is not None and z_KRO.requires_grad):
            return None
        values = self.values_for(x_KTI)
        z_KRO = None if z_KRO is None else z_KRO.to(x_KTI.dtype)
        weight, bias = self.base.weight, self.base.bias
        factors = self.delta.factors(values)
        if factors is not None and x_KTI.shape[1] >= fused.FEWEST_TOKENS * self.context.rows:
            up, down, shift = factors
            return fused.low_rank(x_KTI, weight, bias, up_KrI=up, down_KOr=down, shift_KO=shift, z_KRO=z_KRO)
        if self.delta.dense and z_KRO is not None:
            change, shift = self.delta.weights_lanes(values)
            if change is not None:
                return fused.dense(x_KTI, weight, bias, change_KOI=change, shift_KO=shift, z_KRO=z_KRO)
        return None

    def changes(self) -> Iterator[Tensor]:
        """Yield dW and db, and not the factors that they are made of."""
        bring(self.base)  # some are made of W0 and b0
        yield from (bring_again(self.base, part) for part in self.delta.weights_lanes(self.values) if part is not None)

    @property
    def obstacle(self) -> str:
        """Why this site cannot be merged: the delta, or a bias that the layer has no place for."""
        if self.delta.mergeable and self.base.bias is None and self.delta.shifts:
            return f"{self.name} has no bias, but its delta adds one, which a checkpoint of the model could not store"
        return super().obstacle

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

    def merged(self, lane: int, inner: Plain) -> nn.Linear:
        """Return `nn.Linear` with W0 + dW and b0 + db."""
        plain = copy.deepcopy(self.base, dict(inner))
        with torch.no_grad():
            weight, bias = self.delta.weights(self.of_lane(lane))
            if weight is not None:
                plain.weight.add_(weight)
            if bias is not None:
                plain.bias.add_(bias)
        return plain
