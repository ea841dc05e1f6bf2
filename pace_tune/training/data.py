"""A task's splits on the device: gathered by index, cropped, normalised and augmented there, in batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from pace_tune.benchmarks.task import Examples
from pace_tune.methods.context import repeat_views
from pace_tune.models.backbone import InputSpec

LARGEST_RESIDENT_GIB = 4.0
"""Inputs above it stay in host memory (memory-mapped, for images) and go to the device batch by batch."""
LENGTH_STEP = 8
"""Batches of text are cut to a multiple of it, so that few shapes occur."""


@dataclass(frozen=True)
class ResidentData:
    """One split in device memory, or beside it where it is large.

    Attributes:
        inputs: Model arguments, first axis N; images stay uint8 until a batch is made.
        dtype: Floating-point type of normalised images.
        references: What generated text is compared with.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    spec: InputSpec
    dtype: torch.dtype = torch.float32
    references: tuple[str, ...] = ()

    @classmethod
    def of(cls, examples: Examples, *, spec: InputSpec, device: torch.device, dtype: torch.dtype = torch.float32) -> ResidentData:
        """Move a split to the device."""
        fits = sum(value.nbytes for value in examples.inputs.values()) <= LARGEST_RESIDENT_GIB * 2**30
        inputs = {key: value.to(device) if fits else value for key, value in examples.inputs.items()}
        return cls(inputs, examples.targets.to(device), spec, dtype, examples.references)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def _lengths(self) -> Tensor | None:
        """Tokens of each text, padding at its end not counted; in host memory."""
        mask = self.inputs.get("attention_mask")
        return None if mask is None else mask.sum(dim=1).cpu()

    @property
    def steady(self) -> bool:
        """Whether batches are made on the device alone and in the same shapes; texts are cut to their longest."""
        return self._lengths is None and all(value.device == self.targets.device for value in self.inputs.values())

    def batch(self, index_KB: Tensor, *, augment: str = "none", generators: Sequence[torch.Generator] = ()) -> dict[str, Tensor]:
        """Return the model's arguments for each lane's samples, (K*B, ...), lane-major.

        Args:
            augment: ``none``, ``flip`` or ``crop_flip``; `generators` draw it, one per lane.
        """
        inputs = self._gathered(index_KB.flatten())
        if "x" in inputs and inputs["x"].dtype == torch.uint8:
            images = inputs["x"]
            if augment != "none":
                images = augmented(images, generators=generators, crop="crop" in augment, size=self.spec.image_size)
            inputs["x"] = self._normalised(images)
        return inputs

    def shared_batch(self, rows: slice, *, lanes: int) -> dict[str, Tensor]:
        """Return the model's arguments for the same samples in every lane."""
        inputs = self._gathered(rows)
        if "x" in inputs and inputs["x"].dtype == torch.uint8:
            inputs["x"] = self._normalised(inputs["x"])
        return {key: repeat_views(value, lanes=1, views=lanes) for key, value in inputs.items()}

    def _gathered(self, rows: Tensor | slice) -> dict[str, Tensor]:
        """Take samples; texts are cut to the longest of them, which changes no result: what is cut was masked."""
        device = self.targets.device
        inputs = {}
        for key, value in self.inputs.items():
            where = rows.to(value.device) if isinstance(rows, Tensor) else rows
            inputs[key] = value[where].to(device, non_blocking=True)
        if self._lengths is None:
            return inputs
        longest = int(self._lengths[rows.cpu() if isinstance(rows, Tensor) else rows].max())
        length = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, inputs["attention_mask"].shape[1])
        return {key: value[:, :length] for key, value in inputs.items()}

    def _normalised(self, images: Tensor) -> Tensor:
        images = center_crop(images, size=self.spec.image_size)
        mean, std = self._statistics
        return (images.to(self.dtype) / 255 - mean) / std

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the channels, on the device: to send them there with each batch would wait for the last one."""
        mean, std = (torch.tensor(numbers, device=self.targets.device, dtype=self.dtype) for numbers in (self.spec.mean, self.spec.std))
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)


def center_crop(images: Tensor, *, size: int) -> Tensor:
    """Return the middle `size` x `size` of images that may be larger."""
    top = round((images.shape[-1] - size) / 2)
    return images[..., top : top + size, top : top + size]


def augmented(images: Tensor, *, generators: Sequence[torch.Generator], crop: bool, size: int) -> Tensor:
    """Return images (K*B, C, H, W) flipped at random and, with `crop`, cut to `size` at a random place.

    Images that have no margin to cut from get a black one of an eighth of their size.
    """
    per_lane = len(images) // len(generators)
    draws_N3 = torch.cat([torch.rand((per_lane, 3), generator=g, device=g.device) for g in generators])
    images = torch.where(draws_N3[:, 0].view(-1, 1, 1, 1) < 0.5, images.flip(-1), images)
    if not crop:
        return images
    padded = images if images.shape[-1] > size else F.pad(images, (size // 8,) * 4)
    offset_N2 = (draws_N3[:, 1:] * (padded.shape[-1] - size + 1)).long()
    grid = torch.arange(size, device=images.device)
    rows = (offset_N2[:, :1] + grid)[:, None, :, None]
    columns = (offset_N2[:, 1:] + grid)[:, None, None, :]
    samples = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return padded[samples, channels, rows, columns]
