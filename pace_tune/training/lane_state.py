"""All that one lane is between two epochs, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pace_tune.errors import DataError
from pace_tune.files import write_bytes

Tensors = dict[str, Tensor]


@dataclass
class LaneState:
    """A lane at the start of an epoch. Generators are not part of it: see `streams`.

    Attributes:
        values: Parameters in the lane's own shapes, by key.
        exp_avg: First moments.
        exp_avg_sq: Second moments.
        memory: What the objective remembers.
        head: The head's start values, where they are not those of the run's seed.
        steps: Optimizer steps taken.
        epoch: Epochs done.
    """

    values: Tensors
    exp_avg: Tensors = field(default_factory=dict)
    exp_avg_sq: Tensors = field(default_factory=dict)
    memory: Tensors = field(default_factory=dict)
    head: Tensors = field(default_factory=dict)
    steps: int = 0
    epoch: int = 0

    def save(self, path: Path, *, run: Mapping[str, Any]) -> None:
        """Write a safetensors file, whole or not at all, with the run's configuration beside the numbers."""
        write_bytes(path, self.dumped(run=run))

    def dumped(self, *, run: Mapping[str, Any]) -> bytes:
        """Return what `save` writes."""
        tensors = {f"{part}:{key}": tensor.contiguous() for part in _PARTS for key, tensor in getattr(self, part).items()}
        metadata = {"steps": str(self.steps), "epoch": str(self.epoch), "run": json.dumps(run, sort_keys=True)}
        return save(tensors, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> tuple[LaneState, dict[str, Any]]:
        """Read a lane and the configuration it was made with.

        Raises:
            DataError: The file is not a whole lane checkpoint.
        """
        return cls.parse(path.read_bytes(), source=str(path))

    @classmethod
    def parse(cls, data: bytes, *, source: str) -> tuple[LaneState, dict[str, Any]]:
        """Read what `dumped` returned, as `load` reads a file.

        Args:
            data: A safetensors file.
            source: What a message calls it.

        Raises:
            DataError: It is not a whole lane checkpoint.
        """
        parts: dict[str, Tensors] = {part: {} for part in _PARTS}
        try:
            for name, tensor in load(data).items():
                part, _, key = name.partition(":")
                parts[part][key] = tensor
            # The header is JSON behind its length; `load` checked both.
            metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            state = cls(**parts, steps=int(metadata["steps"]), epoch=int(metadata["epoch"]))
            return state, json.loads(metadata["run"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{source}: not a lane checkpoint ({error}).") from error


_PARTS = ("values", "exp_avg", "exp_avg_sq", "memory", "head")
