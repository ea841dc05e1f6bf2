"""FTP: every layer's change is projected into a ball whose radius is learned (Tian et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from pace_tune.errors import ConfigError, UnsupportedError
from pace_tune.methods.adapted import Adapted
from pace_tune.methods.site import LinearSite
from pace_tune.pace.objective import Objective, Step, Terms, plain_terms
from pace_tune.registry import objectives

START = 1e-8
"""Radius at the start, and the least there is: a change of exactly zero would have no direction to grow in."""


@objectives.register("ftp")
class Ftp(Objective):
    """Task loss under ||dW_l||_F <= gamma_l, a radius per layer learned beside the weights.

    After each step, here at the start of the next one, (dW_l, db_l) is scaled back into its ball. gamma_l starts at 1e-8 and
    moves by Adam against dL/d(gamma_l) = <dL/dW_l, dW_l> / ||dW_l|| of the step before, as in the paper's algorithm 1.
    Differences from it: the Frobenius norm in place of the largest row sum, since a low-rank delta can be scaled whole but
    not row by row, and no annealing of growing radii. What is scaled are the parameters that start at zero, in which the
    deltas of the low-rank methods are linear.
    """

    paper: ClassVar[str] = "Tian et al. 2023 (FTP); Ni et al. 2024 (PACE), Table 8"
    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("other", "peft", "head"), "it projects the changes of linear layers, and of nothing else"
    )
    sums_over_parts: ClassVar[bool] = False
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rate"})
    renormalise_drop_path: ClassVar[bool] = False

    rate: float = Field(default=0.01, ge=0, description="Adam's learning rate of the radii; at 0 nothing is projected.")

    def memory(self, *, samples: int, classes: int, sites: int = 0) -> dict[str, Tensor]:
        """Return the radii, Adam's moments, the last slopes dL/d(log ||dW||), the norms they belong to, and the step."""
        zeros = {key: torch.zeros(sites) for key in ("exp_avg", "exp_avg_sq", "slope", "norm", "count")}
        return {"radius": torch.full((sites,), START), **zeros}

    def terms(self, step: Step) -> Terms:
        """Project, then return the task's loss of one clean pass; its backward pass leaves the radii's slopes behind."""
        if step.count_K is None or "radius" not in step.memory:
            raise ConfigError("ftp needs `step=` and `memory=objective.memory(samples=..., classes=..., sites=len(adapted.sites))`.")
        sites = _scalable(step.adapted)
        self._project(step, sites)
        scale_KS = torch.ones_like(step.memory["slope"], requires_grad=True)
        # One multiplier per layer where noise would be: its gradient is <dL/dW, dW>.
        scale_KS.register_hook(partial(_remember, step.memory["slope"]))
        like = step.adapted.bank.values_KP
        draw = step.draw(renormalise=self.renormalise_drop_path)
        noise = {site.name: scale_KS[:, i, None, None].to(like).expand(-1, step.samples, site.channels) for i, site in enumerate(sites)}
        return plain_terms(step, step.forward(replace(draw, noise=noise))[:, 0])

    @torch.no_grad()
    def _project(self, step: Step, sites: list[LinearSite]) -> None:
        """Move the radii of lanes that have taken a step since the last call, and scale back what lies outside."""
        memory, count_K = step.memory, cast(Tensor, step.count_K)
        moving_K1 = ((count_K > memory["count"][:, 0]) & (step.strengths["rate"] > 0))[:, None]
        norm_KS = torch.stack([_norm(site) for site in sites], dim=1).to(memory["norm"])
        kept = {key: memory[key][:, : len(sites)] for key in memory}
        moved = _adam(kept, rate_K1=step.strengths["rate"].to(norm_KS)[:, None], count_K1=count_K.to(norm_KS)[:, None].clamp_min(1))
        scale_KS = torch.where(moving_K1, (moved["radius"] / norm_KS.clamp_min(1e-30)).clamp(max=1.0), 1.0)
        for site, scale_K in zip(sites, scale_KS.unbind(dim=1), strict=True):
            _scale(site, scale_K)
        now = {**moved, "norm": norm_KS * scale_KS, "slope": torch.zeros_like(norm_KS), "count": count_K.to(norm_KS)[:, None]}
        for key, value_KS in now.items():
            kept[key].copy_(torch.where(moving_K1, value_KS, kept[key]))


def _remember(slope_KS: Tensor, grad_KS: Tensor) -> None:
    slope_KS += grad_KS


def _adam(kept: Mapping[str, Tensor], *, rate_K1: Tensor, count_K1: Tensor) -> dict[str, Tensor]:
    """Return the radii and moments after one step of Adam against dL/d(gamma)."""
    slope_KS = torch.where(kept["norm"] > 0, kept["slope"] / kept["norm"].clamp_min(1e-30), 0.0)
    first_KS = torch.lerp(slope_KS, kept["exp_avg"], 0.9)
    second_KS = torch.lerp(slope_KS.square(), kept["exp_avg_sq"], 0.999)
    move_KS = first_KS / (1 - 0.9**count_K1) / ((second_KS / (1 - 0.999**count_K1)).sqrt() + 1e-8)
    return {"radius": (kept["radius"] - rate_K1 * move_KS).clamp_min(START), "exp_avg": first_KS, "exp_avg_sq": second_KS}


def _norm(site: LinearSite) -> Tensor:
    """Return ||(dW, db)|| of every lane, (K,)."""
    parts = [part for part in site.delta.weights_lanes(site.values) if part is not None]
    return torch.stack([part.flatten(1).square().sum(dim=1) for part in parts]).sum(dim=0).sqrt()


def _scale(site: LinearSite, scale_K: Tensor) -> None:
    """Multiply a layer's delta by a number per lane, through the parameters that start at zero."""
    for key, start in site.delta.init(torch.Generator().manual_seed(0)).items():
        if not bool(start.any()):
            parameter = site.values[key]
            parameter.mul_(scale_K.to(parameter).view(-1, *[1] * (parameter.ndim - 1)))


def _scalable(adapted: Adapted) -> list[LinearSite]:
    sites = [site for name, site in adapted.sites.items() if name != adapted.head_name]
    linear = [site for site in sites if isinstance(site, LinearSite)]
    if len(linear) < len(sites):
        other = next(site for site in sites if not isinstance(site, LinearSite))
        raise UnsupportedError(f"objective 'ftp' projects linear layers, and {other.name} is a {type(other).__name__}.")
    return linear
