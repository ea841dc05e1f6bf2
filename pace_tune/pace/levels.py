"""How strong the noise is at each depth."""

from __future__ import annotations

from typing import Literal

Shape = Literal["decreasing", "constant", "increasing"]


def sigma_levels(depth: int, *, quiet_blocks: int = 0, shape: Shape = "decreasing") -> tuple[float, ...]:
    """Return sigma's factor for blocks 0..depth-1 and, last, for the head.

    ``decreasing`` is the paper's: linear in depth, 1 in the first noisy block and 1/n at the head, n the number of
    noisy levels, head included (section 3.5; ViT-B with one quiet block: 0, 1, 11/12, ..., 2/12, 1/12). ``constant``
    and ``increasing`` are its ablations (Table 8).

    Args:
        depth: Number of blocks.
        quiet_blocks: Blocks without noise at the start.
    """
    noisy = depth + 1 - quiet_blocks
    falling = [(noisy - i) / noisy for i in range(noisy)]
    factors = {"decreasing": falling, "constant": [1.0] * noisy, "increasing": falling[::-1]}[shape]
    return (*[0.0] * quiet_blocks, *factors)
