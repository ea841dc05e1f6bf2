"""Outputs as a function of what the noise multiplies: f(z) = f(x; theta_0 + z * dtheta).

Everything that the theorems say of gradients and Hessians weighted by dtheta is plain calculus in z at z = 1: with
g(z) = f(theta_0 + z * dtheta), dg/dz_i = dtheta_i df/dtheta_i and d2g/dz_i dz_k = dtheta_i dtheta_k H_ik. Noise shared by a
row of dW (what is trained with) and noise on each entry (what the theorems are stated for) then differ only in what z is.

Axes as in `methods.context`, and D coordinate of z, N row (view-major: row v * B + b belongs to sample b).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from pace_tune.errors import UnsupportedError, require
from pace_tune.methods.adapted import Adapted, merge
from pace_tune.methods.context import Draw, repeat_views
from pace_tune.methods.site import LinearSite, Site
from pace_tune.pace.draws import noise_plan
from pace_tune.pace.levels import Shape

Inputs = Mapping[str, Tensor]


class NoisyFunction(Protocol):
    """Outputs of a batch as a function of the multipliers.

    Attributes:
        samples: B.
        sigma_D: Standard deviation of each coordinate of z; 0 where it is quiet.
    """

    samples: int
    sigma_D: Tensor

    def __call__(self, z_ND: Tensor) -> Tensor:
        """Return outputs (N, C); a row depends on its own z only. N is a multiple of B."""
        ...


@dataclass(frozen=True)
class Noise:
    """How strong the noise is where.

    Args:
        sigma: Standard deviation in the first noisy block.
        quiet_blocks: As in `NoisyObjective`.
        levels: How it changes with depth.
        head: Whether the head counts as a delta over a base of zero; else it is part of f.
    """

    sigma: float = 1.0
    quiet_blocks: int | None = None
    levels: Shape = "decreasing"
    head: bool = False

    def of_sites(self, adapted: Adapted) -> dict[str, float]:
        """Return the standard deviation at every site that noise can reach; 0 at the quiet ones."""
        plan = noise_plan(adapted, quiet_blocks=self.quiet_blocks, shape=self.levels, head=self.head)
        sites = {name: site for name, site in adapted.sites.items() if site.noisy and (self.head or name != adapted.head_name)}
        factors = {name: float(plan.factors_N[plan.columns[name]][0]) if name in plan.columns else 0.0 for name in sites}
        return {name: self.sigma * factor for name, factor in factors.items()}


class ChannelNoise:
    """One multiplier per sample and output channel of a layer, shared by its tokens: the noise that is trained with.

    Shared by a row of dW and the entry of db that goes with it. DropPath is off.

    Args:
        adapted: A model with one lane.
        inputs: A batch of it.
        scale: t of theta_0 + t * dtheta; every delta that noise can reach is scaled by it, quiet ones too.

    Raises:
        UnsupportedError: Noise reaches no delta of the method, e.g. under linear probing.
    """

    def __init__(self, adapted: Adapted, inputs: Inputs, *, noise: Noise, scale: float = 1.0) -> None:
        require(adapted.lanes == 1, "adapted.lanes == 1", lanes=adapted.lanes)
        self.adapted, self.inputs, self.scale = adapted, inputs, scale
        self.samples = len(next(iter(inputs.values())))
        levels = noise.of_sites(adapted)
        if not levels:
            raise UnsupportedError(f"noise reaches no delta of method {adapted.methods[0].name!r}, so there is nothing to expand in.")
        self.columns, start = {}, 0
        for name in levels:
            self.columns[name] = slice(start, start + adapted.sites[name].channels)
            start += adapted.sites[name].channels
        like = adapted.bank.values_KP
        self.sigma_D = torch.cat([like.new_full((adapted.sites[name].channels,), sigma) for name, sigma in levels.items()])

    def __call__(self, z_ND: Tensor) -> Tensor:
        """Return outputs (N, C)."""
        views = len(z_ND) // self.samples
        inputs = {key: repeat_views(value, lanes=1, views=views) for key, value in self.inputs.items()}
        noise = {name: self.scale * z_ND[None, :, columns] for name, columns in self.columns.items()}
        # The fused attention kernels have no second derivative.
        with sdpa_kernel(SDPBackend.MATH), _PlainNorms(), self.adapted.context.step(rows=len(z_ND), draw=Draw(noise)):
            outputs: Tensor = self.adapted(**inputs)
        return outputs.flatten(1)


class ElementNoise:
    """One multiplier per sample and entry of dW and db: the noise that Theorems 2 and 3 are stated for.

    Every row has weights of its own, so this is for small models and batches.

    Raises:
        UnsupportedError: The method cannot be merged, or a delta is not one of weights.
    """

    def __init__(self, adapted: Adapted, inputs: Inputs, *, noise: Noise, scale: float = 1.0) -> None:
        require(adapted.lanes == 1, "adapted.lanes == 1", lanes=adapted.lanes)
        self.inputs, self.scale = inputs, scale
        self.samples = len(next(iter(inputs.values())))
        self.plain = merge(adapted)
        self.base: dict[str, Tensor] = {}
        self.change: dict[str, Tensor] = {}
        sigmas = []
        for name, sigma in noise.of_sites(adapted).items():
            for key, change in _changes(adapted.sites[name]).items():
                merged = self.plain.get_parameter(f"{name}.{key}").detach()
                self.change[f"{name}.{key}"] = change
                self.base[f"{name}.{key}"] = torch.zeros_like(merged) if name == adapted.head_name else merged - change
                sigmas.append(torch.full_like(change, sigma).flatten())
        self.sigma_D = torch.cat(sigmas)

    def __call__(self, z_ND: Tensor) -> Tensor:
        """Return outputs (N, C)."""
        views = len(z_ND) // self.samples
        inputs = {key: repeat_views(value, lanes=1, views=views) for key, value in self.inputs.items()}
        sizes = [change.numel() for change in self.change.values()]
        parts = dict(zip(self.change, z_ND.split(sizes, dim=1), strict=True))
        with sdpa_kernel(SDPBackend.MATH), _PlainNorms():
            return vmap(self._one)(parts, inputs)

    def _one(self, z: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        weights = {key: self.base[key] + self.scale * z[key].view_as(change) * change for key, change in self.change.items()}
        batch = {key: value[None] for key, value in inputs.items()}
        outputs = functional_call(self.plain, weights, kwargs=batch)
        return cast(Tensor, getattr(outputs, "logits", outputs)).flatten()


class _PlainNorms(TorchFunctionMode):
    """Layer norms as sums and products: PyTorch's own takes mean and deviation as constants from the third derivative on."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        call = _layer_norm if func is functional.layer_norm else func
        return call(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,  # noqa: A002  (PyTorch's name for it)
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    out = centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _changes(site: Site) -> dict[str, Tensor]:
    if not isinstance(getattr(site, "base", None), nn.Linear) or not hasattr(site.delta, "weights"):
        raise UnsupportedError(f"{site.name} does not change weights, so noise on their entries means nothing there.")
    with torch.no_grad():
        weight, bias = cast(LinearSite, site).delta.weights(site.of_lane(0))
    return {key: value.detach() for key, value in (("weight", weight), ("bias", bias)) if value is not None}
