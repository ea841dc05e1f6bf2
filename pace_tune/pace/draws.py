"""The random numbers of a training step: each lane's from a generator of its own, drawn before the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import Draw, Joining
from pace_tune.methods.dropout import dropout_draw
from pace_tune.pace.levels import Shape, sigma_levels

Kind = Literal["gaussian", "dropout", "output", "added"]
"""``gaussian``: z ~ N(1, s^2) multiplies the delta (PACE). ``dropout``: the same with z Bernoulli, 0 or 1 + s^2 with mean 1
and variance s^2, that is a drop rate of s^2 / (1 + s^2). ``output``: z ~ N(1, s^2) multiplies base + delta. ``added``: N(0, s^2)
is added to them."""
JOINING: dict[Kind, Joining] = {"gaussian": "delta", "dropout": "delta", "output": "output", "added": "add"}


@dataclass(frozen=True)
class NoisePlan:
    """Which sites are perturbed, how strongly, and where each finds its columns in a lane's noise.

    Attributes:
        columns: Site name -> its columns.
        factors_N: Factor of sigma, a column each.
        first_level: Depth of the first perturbed block.
        kind: Its distribution, and how it enters.
    """

    columns: dict[str, slice]
    factors_N: Tensor
    first_level: int
    kind: Kind = "gaussian"


def noise_plan(adapted: Adapted, *, quiet_blocks: int | None = None, shape: Shape = "decreasing", head: bool = True) -> NoisePlan:
    """Plan the noise of an adapted model (PACE, sections 3.2 and 3.5).

    Args:
        quiet_blocks: None takes the family's: 1 on ViT, 0 elsewhere, as in the released code.
        head: Whether the logits are multiplied too.
    """
    layout = adapted.layout
    quiet_blocks = quiet_by_default(adapted) if quiet_blocks is None else quiet_blocks
    factors = sigma_levels(layout.depth, quiet_blocks=quiet_blocks, shape=shape)
    levels = {place.name: place.level for place in layout.places}
    if head and layout.head is not None:
        levels[layout.head.name] = layout.depth
    columns, widths, start = {}, [], 0
    for name, site in adapted.sites.items():
        factor = factors[levels[name]] if site.noisy and name in levels else 0.0
        if factor:
            columns[name] = slice(start, start + site.channels)
            widths.append(torch.full((site.channels,), factor, dtype=torch.float64))
            start += site.channels
    like = adapted.bank.values_KP
    factors_N = torch.cat(widths).to(like) if widths else like.new_zeros(0)
    return NoisePlan(columns, factors_N, min((levels[name] for name in columns), default=layout.depth))


def quiet_by_default(adapted: Adapted) -> int:
    """Return how many blocks at the start carry no noise in the released code: 1 on ViT, 0 elsewhere."""
    table = adapted.layout.table
    return int(table is not None and table.first_block_quiet)


def draw_step(
    adapted: Adapted,
    *,
    generators: Sequence[torch.Generator],
    samples: int,
    views: int = 1,
    plan: NoisePlan | None = None,
    sigma_K: Tensor | None = None,
    renormalise: bool = True,
    paired_K: Tensor | None = None,
) -> Draw:
    """Draw one step's noise and DropPath masks.

    Noise: as the plan's kind says, with s = sigma * factor; one number per row and output channel, independent between views.
    DropPath: one mask per sample, shared by its views; with `renormalise` divided by its mean over the lane's batch.

    Args:
        generators: One per lane; a lane's numbers depend on nothing else.
        samples: B.
        views: V; rows of a lane are view-major.
        paired_K: Lanes whose second half of the batch repeats the first, and so shares its masks (pace_lazy).
    """
    noise: dict[str, Tensor] = {}
    if plan is not None and sigma_K is not None and plan.columns:
        z_KRN = _noise(plan, generators, rows=samples * views, sigma_K=sigma_K)
        noise = {name: z_KRN[:, :, columns] for name, columns in plan.columns.items()}
    masks = _drop_path(adapted, generators, samples=samples, views=views, renormalise=renormalise, paired_K=paired_K)
    joining = JOINING[plan.kind] if plan is not None else "delta"
    dropout = dropout_draw(generators, samples=samples, paired_K=paired_K) if adapted.drops else None
    return Draw(noise, masks, joining, dropout, _paths(adapted, generators))


def view_of(draw: Draw, view: int, *, samples: int) -> Draw:
    """Return the part of a draw that belongs to one view."""
    rows = slice(view * samples, (view + 1) * samples)
    noise = {key: z[:, rows] for key, z in draw.noise.items()}
    return replace(draw, noise=noise, drop_path={key: mask[:, rows] for key, mask in draw.drop_path.items()})


@dataclass(frozen=True)
class Part:
    """Some samples of a batch.

    Attributes:
        rows_b: Their positions in the batch.
        batch_size: B.
    """

    rows_b: Tensor
    batch_size: int

    def of(self, draw: Draw, *, views: int) -> Draw:
        """Return the part of the batch's draw that belongs to these samples, in all views."""
        rows = torch.cat([self.rows_b + view * self.batch_size for view in range(views)])
        noise = {key: z[:, rows] for key, z in draw.noise.items()}
        dropout = draw.dropout.part(self.rows_b) if draw.dropout else None
        return replace(draw, noise=noise, drop_path={key: mask[:, rows] for key, mask in draw.drop_path.items()}, dropout=dropout)


def micro_batches(batch_size: int, parts: int) -> list[Part]:
    """Divide a batch so that sample i stays with sample B/2 + i, which repeats it in lanes that are paired (pace_lazy)."""
    half = batch_size // 2
    first = torch.arange(half).tensor_split(parts) if half else (torch.arange(0),)
    rows = [torch.cat([part, half + part]) for part in first]
    rows[-1] = torch.cat([rows[-1], torch.arange(2 * half, batch_size)])
    return [Part(part, batch_size) for part in rows]


def _noise(plan: NoisePlan, generators: Sequence[torch.Generator], *, rows: int, sigma_K: Tensor) -> Tensor:
    """Return z_KRN of every lane, its numbers from its own generator."""
    shape = (rows, len(plan.factors_N))
    draw = torch.rand if plan.kind == "dropout" else torch.randn
    # Drawn in float32 whatever the model's precision: a seed means the same noise.
    n_KRN = torch.stack([draw(shape, generator=g, device=g.device) for g in generators]).to(plan.factors_N)
    scale_K1N = sigma_K.to(n_KRN.dtype)[:, None, None] * plan.factors_N
    if plan.kind == "dropout":
        kept = 1 + scale_K1N.square()  # one over the keep rate
        return (n_KRN * kept < 1) * kept
    if plan.kind == "added":
        return n_KRN * scale_K1N
    return torch.addcmul(torch.ones_like(n_KRN), n_KRN, scale_K1N)


def _paths(adapted: Adapted, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """Return each lane's random path through its supernet, the same in all views."""
    count = adapted.methods[0].path_numbers(adapted.layout)
    if not count:
        return {}
    numbers_KN = torch.stack([torch.rand(count, generator=g, device=g.device) for g in generators])
    return adapted.methods[0].paths(adapted.layout, numbers_KN)


def _drop_path(
    adapted: Adapted, generators: Sequence[torch.Generator], *, samples: int, views: int, renormalise: bool, paired_K: Tensor | None
) -> dict[str, Tensor]:
    paths = [path for path in adapted.drop_paths.values() if path.rate > 0]
    if not paths:
        return {}
    uniform_KBN = torch.stack([torch.rand((samples, len(paths)), generator=g, device=g.device) for g in generators])
    keep_N = _keep_rates(tuple(path.rate for path in paths), uniform_KBN.dtype, uniform_KBN.device)
    mask_KBN = (uniform_KBN < keep_N) / keep_N
    if paired_K is not None:
        half = samples // 2
        # An odd sample out is not looked at; so that the batch's mean is that of the pairs, it has their mean.
        odd = mask_KBN[:, :half].mean(dim=1, keepdim=True).expand(-1, samples - 2 * half, -1)
        paired = torch.cat([mask_KBN[:, :half], mask_KBN[:, :half], odd], dim=1)
        mask_KBN = torch.where(paired_K[:, None, None], paired, mask_KBN)
    if renormalise:
        mask_KBN = mask_KBN / (mask_KBN.mean(dim=1, keepdim=True) + 1e-12)
    mask_KRN = mask_KBN.repeat(1, views, 1)
    return {path.name: mask_KRN[..., i] for i, path in enumerate(paths)}


@lru_cache(maxsize=16)
def _keep_rates(rates: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return 1 - rates on the device: sent there in every step, they would make the host wait for the step before."""
    return 1 - torch.tensor(rates, dtype=dtype, device=device)
