"""Dropout inside a delta, with masks that do not depend on anything but the lane's draw, the site and the sample.

A mask is a hash of (draw, site, sample, token, unit). So all views of a sample share it whatever the order and number
of forward passes, micro-batches take their part of it, and a lane's does not depend on how wide its neighbours are.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class DropoutDraw:
    """One step's dropout of all lanes.

    Attributes:
        seed_K: A 31-bit number a lane.
        samples_KB: Which sample of the batch each row shows; pairs that must share masks have the same number.
    """

    seed_K: Tensor
    samples_KB: Tensor

    def part(self, rows_b: Tensor) -> DropoutDraw:
        """Return the draw of some rows of the batch."""
        return replace(self, samples_KB=self.samples_KB[:, rows_b])

    def mask(self, site: str, *, rows: int, tokens: int, width: int, rate: float) -> Tensor:
        """Return multipliers (K, rows * tokens, width): 0 at the given rate, else 1 / (1 - rate).

        Args:
            rows: Rows per lane, view-major; a multiple of the batch.
            tokens: Tokens of one row.
        """
        samples_KR = self.samples_KB.repeat(1, rows // self.samples_KB.shape[1])
        device = samples_KR.device
        lane_K1 = _mixed(self.seed_K[:, None] ^ zlib.crc32(site.encode()))
        sample_KR = _mixed(lane_K1 + samples_KR)
        token_KRT = _mixed(sample_KR[:, :, None] + torch.arange(tokens, device=device))
        unit_KTh = _mixed(token_KRT.flatten(1)[:, :, None] + torch.arange(width, device=device))
        return (unit_KTh >= int(rate * 2**32)) / (1 - rate)


def dropout_draw(generators: Sequence[torch.Generator], *, samples: int, paired_K: Tensor | None = None) -> DropoutDraw:
    """Draw one step's dropout, each lane's from its own generator.

    Args:
        samples: B.
        paired_K: Lanes whose second half of the batch repeats the first.
    """
    seed_K = torch.cat([torch.randint(2**31, (1,), generator=g, device=g.device) for g in generators])
    samples_KB = torch.arange(samples, device=seed_K.device).expand(len(generators), -1)
    if paired_K is not None:
        samples_KB = torch.where(paired_K[:, None], samples_KB % max(1, samples // 2), samples_KB)
    return DropoutDraw(seed_K, samples_KB)


def _mixed(x: Tensor) -> Tensor:
    """Return 32-bit numbers in which every bit depends on all of x (the finaliser of MurmurHash3, with an offset)."""
    # int64 products wrap, but their low 32 bits are right.
    x = (x + 0x9E3779B9) & _WORD
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _WORD
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _WORD
    return x ^ (x >> 16)
