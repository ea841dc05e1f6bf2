"""The random numbers of a training step: each lane's from a generator of its own, drawn before the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import Draw
from pace_tune.pace.levels import Shape, sigma_levels


@dataclass(frozen=True)
class NoisePlan:
    """Which sites are perturbed, how strongly, and where each finds its columns in a lane's noise.

    Attributes:
        columns: Site name -> its columns.
        factors_N: Factor of sigma, a column each.
        first_level: Depth of the first perturbed block.
    """

    columns: dict[str, slice]
    factors_N: Tensor
    first_level: int


def noise_plan(adapted: Adapted, *, quiet_blocks: int | None = None, shape: Shape = "decreasing", head: bool = True) -> NoisePlan:
    """Plan the noise of an adapted model (PACE, sections 3.2 and 3.5).

    Args:
        quiet_blocks: None takes the family's: 1 on ViT, 0 elsewhere, as in the released code.
        head: Whether the logits are multiplied too.
    """
    layout = adapted.layout
    if quiet_blocks is None:
        quiet_blocks = int(bool(layout.table and layout.table.first_block_quiet))
    factors = sigma_levels(layout.depth, quiet_blocks=quiet_blocks, shape=shape)
    levels = {place.name: place.level for place in layout.places}
    if head and layout.head is not None:
        levels[layout.head.name] = layout.depth
    columns, widths, start = {}, [], 0
    for name, site in adapted.sites.items():
        factor = factors[levels[name]] if site.noisy and name in levels else 0.0
        if factor:
            columns[name] = slice(start, start + site.channels)
            widths.append(torch.full((site.channels,), factor))
            start += site.channels
    device = adapted.bank.values_KP.device
    factors_N = torch.cat(widths).to(device) if widths else torch.zeros(0, device=device)
    return NoisePlan(columns, factors_N, min((levels[name] for name in columns), default=layout.depth))


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

    Noise: z = 1 + sigma * factor * n, n standard normal, one per row and output channel, independent between views.
    DropPath: one mask per sample, shared by its views; with `renormalise` divided by its mean over the lane's batch.

    Args:
        generators: One per lane; a lane's numbers depend on nothing else.
        samples: B.
        views: V; rows of a lane are view-major.
        paired_K: Lanes whose second half of the batch repeats the first, and so shares its masks (pace_lazy).
    """
    noise: dict[str, Tensor] = {}
    if plan is not None and sigma_K is not None and plan.columns:
        shape = (samples * views, len(plan.factors_N))
        n_KRN = torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
        z_KRN = torch.addcmul(torch.ones_like(n_KRN), n_KRN, sigma_K.to(n_KRN.dtype)[:, None, None] * plan.factors_N)
        z_KRN = z_KRN.to(adapted.bank.values_KP.dtype)
        noise = {name: z_KRN[:, :, columns] for name, columns in plan.columns.items()}
    masks = _drop_path(adapted, generators, samples=samples, views=views, renormalise=renormalise, paired_K=paired_K)
    return Draw(noise, masks)


def view_of(draw: Draw, view: int, *, samples: int) -> Draw:
    """Return the part of a draw that belongs to one view."""
    rows = slice(view * samples, (view + 1) * samples)
    return Draw({k: z[:, rows] for k, z in draw.noise.items()}, {k: m[:, rows] for k, m in draw.drop_path.items()})


def _drop_path(
    adapted: Adapted, generators: Sequence[torch.Generator], *, samples: int, views: int, renormalise: bool, paired_K: Tensor | None
) -> dict[str, Tensor]:
    paths = [path for path in adapted.drop_paths.values() if path.rate > 0]
    if not paths:
        return {}
    uniform_KBN = torch.stack([torch.rand((samples, len(paths)), generator=g, device=g.device) for g in generators])
    keep_N = 1 - uniform_KBN.new_tensor([path.rate for path in paths])
    mask_KBN = (uniform_KBN < keep_N) / keep_N
    if paired_K is not None:
        half = samples // 2
        paired = torch.cat([mask_KBN[:, :half], mask_KBN[:, :half], mask_KBN[:, 2 * half :]], dim=1)
        mask_KBN = torch.where(paired_K[:, None, None], paired, mask_KBN)
    if renormalise:
        mask_KBN = mask_KBN / (mask_KBN.mean(dim=1, keepdim=True) + 1e-12)
    mask_KRN = mask_KBN.repeat(1, views, 1)
    return {path.name: mask_KRN[..., i] for i, path in enumerate(paths)}
