"""A plain model, loaded from an export, where the engine expects an adapted one: one lane and nothing to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import LaneContext
from pace_tune.models.export_files import read_model
from pace_tune.models.export_spec import ExportSpec


class Shipped(nn.Module):
    """A model without deltas; scoring and generation take it as they take an `Adapted` one.

    Args:
        model: In evaluation mode.
    """

    lanes = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.context = LaneContext()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits."""
        out = self.model(*args, **kwargs)
        return cast(Tensor, getattr(out, "logits", out))


def shipped(folder: Path, spec: ExportSpec, *, device: torch.device) -> Adapted:
    """Load an exported model, typed as what the engine's functions ask for.

    Raises:
        DataError: It cannot be loaded.
    """
    return cast(Adapted, Shipped(read_model(folder, spec).to(device)))
