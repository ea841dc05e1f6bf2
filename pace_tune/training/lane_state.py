"""All that one lane is between two epochs, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
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
        tensors = {f"{part}:{key}": tensor.contiguous() for part in _PARTS for key, tensor in getattr(self, part).items()}
        metadata = {"steps": str(self.steps), "epoch": str(self.epoch), "run": json.dumps(run, sort_keys=True)}
        write_bytes(path, save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> tuple[LaneState, dict[str, Any]]:
        """Read a lane and the configuration it was made with.

        Raises:
            DataError: The file is not a whole lane checkpoint.
        """
        parts: dict[str, Tensors] = {part: {} for part in _PARTS}
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                for name in file.keys():  # noqa: SIM118  (safe_open has no __iter__)
                    part, _, key = name.partition(":")
                    parts[part][key] = file.get_tensor(name)
            state = cls(**parts, steps=int(metadata["steps"]), epoch=int(metadata["epoch"]))
            return state, json.loads(metadata["run"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a lane checkpoint ({error}).") from error


_PARTS = ("values", "exp_avg", "exp_avg_sq", "memory", "head")
