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
        images: What it calls images, where that is not `x`.
    """

    lanes = 1

    def __init__(self, model: nn.Module, *, images: str = "x") -> None:
        super().__init__()
        self.model, self.images = model, images
        self.context = LaneContext()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits."""
        if self.images != "x":
            x = kwargs.pop("x")
            kwargs |= {self.images: x, "interpolate_pos_encoding": x.shape[-1] != cast(Any, self.model).config.image_size}
        out = self.model(*args, **kwargs)
        return cast(Tensor, getattr(out, "logits", out))


def shipped(folder: Path, spec: ExportSpec, *, device: torch.device) -> Adapted:
    """Load an exported model, typed as what the engine's functions ask for.

    Raises:
        DataError: It cannot be loaded.
    """
    model = read_model(folder, spec).to(device)
    named_by_transformers = spec.is_image and spec.form == "transformers"
    return cast(Adapted, Shipped(model, images=str(model.main_input_name) if named_by_transformers else "x"))
