"""Random streams by name: what a lane draws depends on its seed, the stream and the epoch, and on nothing else.

An epoch's numbers do not depend on the epochs before it, so resuming at an epoch's start needs no generator state.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch

Stream = Literal["init", "order", "noise", "augment", "measure"]


def stream(seed: int, name: Stream, epoch: int = 0, *, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of one stream of one lane in one epoch."""
    return restart(torch.Generator(device=device), seed, name, epoch)


def restart(generator: torch.Generator, seed: int, name: Stream, epoch: int) -> torch.Generator:
    """Make a generator that of a stream, from its start, and return it."""
    digest = hashlib.blake2b(f"{seed}/{name}/{epoch}".encode(), digest_size=8).digest()
    return generator.manual_seed(int.from_bytes(digest, "little") >> 1)
