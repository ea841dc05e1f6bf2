"""What the published code and ours are both run on: a small ViT, its adapters, a batch and its noise, all from names.

Every number is a hash of a name and a position, so that neither torch's nor numpy's generators have a say in it.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from math import prod
from pathlib import Path

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

STORED = Path(__file__).parent / "pace_reference.npz"

DEPTH, WIDTH, CLASSES, RANK, SAMPLES = 12, 16, 5, 3, 4
SIGMA, LAMBDA = 1.2, 0.7
DTYPES = {"float32": torch.float32, "float64": torch.float64}
STEPS = ("pace", "pace_fast", "pace_lazy", "pace_lazy_between")
"""pace_fast: the second time that it sees the batch, in another order. pace_lazy: a step of half batches and a step between two."""


@dataclass(frozen=True)
class Case:
    """One comparison: logits, losses and gradients of one training step."""

    method: str
    step: str
    drop_path: float
    dtype: str

    @property
    def key(self) -> str:
        return f"{self.method}-{self.step}-{self.drop_path}-{self.dtype}"


CASES = [
    Case(method, step, drop_path, dtype)
    for method, drop_paths in (("lora_mul_vpt_add", (0.0, 0.1)), ("lora_add", (0.1,)), ("vpt_add", (0.1,)))
    for drop_path in drop_paths
    for step in STEPS
    for dtype in DTYPES
]


@cache
def numbers(name: str, *shape: int) -> np.ndarray:
    """Return numbers in [-1, 1), fixed by `name` (splitmix64)."""
    seed = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        z = np.arange(1, prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-52 - 1.0


def tensor(name: str, *shape: int, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(scale * numbers(name, *shape)).to(dtype)


def small_vit(case: Case) -> VisionTransformer:
    """A depth-12 ViT on 16-pixel images whose weights keep the size of what passes through them."""
    model = VisionTransformer(
        img_size=16,
        patch_size=8,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=2,
        mlp_ratio=2,
        num_classes=CLASSES,
        drop_path_rate=case.drop_path,
    ).to(DTYPES[case.dtype])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            matrix = parameter.ndim > 1 and "embed" not in name and "token" not in name
            scale = (3 / parameter[0].numel()) ** 0.5 if matrix else 0.3
            values = tensor(f"backbone/{name}", *parameter.shape, dtype=parameter.dtype, scale=scale)
            parameter.copy_(1 + values if "norm" in name and name.endswith("weight") else values)
    return model


def start(key: str, *shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the values of an adapter's parameter: far from zero, where adapters start, so that every gradient is there."""
    return tensor(f"adapter/{key}", *shape, dtype=dtype, scale=0.5)


def batch(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return tensor("images", SAMPLES, 3, 16, 16, dtype=dtype), torch.tensor([0, 3, 1, 4])


def noise(site: str, rows: int, channels: int, *, call: int, dtype: torch.dtype) -> torch.Tensor:
    """Return a site's noise before sigma, of unit variance."""
    return tensor(f"noise/{site}/{call}", rows, channels, dtype=dtype, scale=3**0.5)


def kept(path: str, keep: float, *, call: int, dtype: torch.dtype, samples: int = SAMPLES) -> torch.Tensor:
    """Return 1.0 where a residual branch stays."""
    return torch.from_numpy((numbers(f"drop/{path}/{call}", samples) + 1) / 2 < keep).to(dtype)


def digest(key: str, gradient: torch.Tensor) -> list[float]:
    """Return a gradient's norm and two projections of it."""
    flat = gradient.detach().double().numpy().ravel()
    return [float(np.linalg.norm(flat)), *(float(flat @ numbers(f"probe/{key}/{i}", flat.size)) for i in (0, 1))]
