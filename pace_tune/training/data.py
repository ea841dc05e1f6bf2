"""A task's splits on the device: gathered by index, normalised and augmented there, in batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pace_tune.benchmarks.task import Examples
from pace_tune.methods.context import repeat_views
from pace_tune.models.backbone import InputSpec


@dataclass(frozen=True)
class ResidentData:
    """One split in device memory.

    Attributes:
        inputs: Model arguments, first axis N; images stay uint8 until a batch is made.
        dtype: Floating-point type of normalised images.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    spec: InputSpec
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, examples: Examples, *, spec: InputSpec, device: torch.device, dtype: torch.dtype = torch.float32) -> ResidentData:
        """Move a split to the device."""
        inputs = {key: value.to(device) for key, value in examples.inputs.items()}
        return cls(inputs, examples.targets.to(device), spec, dtype)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index_KB: Tensor, *, augment: str = "none", generators: Sequence[torch.Generator] = ()) -> dict[str, Tensor]:
        """Return the model's arguments for each lane's samples, (K*B, ...), lane-major.

        Args:
            augment: ``none``, ``flip`` or ``crop_flip``; `generators` draw it, one per lane.
        """
        inputs = {key: value[index_KB.flatten()] for key, value in self.inputs.items()}
        if "x" in inputs and inputs["x"].dtype == torch.uint8:
            images = inputs["x"]
            if augment != "none":
                images = augmented(images, generators=generators, crop="crop" in augment)
            inputs["x"] = self._normalised(images)
        return inputs

    def shared_batch(self, rows: slice, *, lanes: int) -> dict[str, Tensor]:
        """Return the model's arguments for the same samples in every lane."""
        inputs = {key: value[rows] for key, value in self.inputs.items()}
        if "x" in inputs and inputs["x"].dtype == torch.uint8:
            inputs["x"] = self._normalised(inputs["x"])
        return {key: repeat_views(value, lanes=1, views=lanes) for key, value in inputs.items()}

    def _normalised(self, images: Tensor) -> Tensor:
        mean = torch.tensor(self.spec.mean, device=images.device, dtype=self.dtype).view(1, -1, 1, 1)
        std = torch.tensor(self.spec.std, device=images.device, dtype=self.dtype).view(1, -1, 1, 1)
        return (images.to(self.dtype) / 255 - mean) / std


def augmented(images: Tensor, *, generators: Sequence[torch.Generator], crop: bool) -> Tensor:
    """Return images (K*B, C, H, W) flipped at random and, with `crop`, shifted by up to an eighth of their size."""
    per_lane = len(images) // len(generators)
    draws_N3 = torch.cat([torch.rand((per_lane, 3), generator=g, device=g.device) for g in generators])
    images = torch.where(draws_N3[:, 0].view(-1, 1, 1, 1) < 0.5, images.flip(-1), images)
    if not crop:
        return images
    size = images.shape[-1]
    margin = size // 8
    padded = F.pad(images, (margin,) * 4)
    offset_N2 = (draws_N3[:, 1:] * (2 * margin + 1)).long()
    grid = torch.arange(size, device=images.device)
    rows = (offset_N2[:, :1] + grid)[:, None, :, None]
    columns = (offset_N2[:, 1:] + grid)[:, None, None, :]
    samples = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return padded[samples, channels, rows, columns]
