"""The number format of the frozen trunk. What trains, its moments, and logits that are judged stay in float32."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import nn

from pace_tune.errors import ConfigError

Precision: TypeAlias = Literal["auto", "float32", "tf32", "bfloat16"]


def set_precision(model: nn.Module, precision: str, *, device: torch.device) -> torch.dtype:
    """Bring a frozen model to a precision, and return the floating-point type that it wants to be fed.

    A model that was loaded in half precision stays as it is.

    Args:
        precision: ``auto`` is ``bfloat16`` on GPUs and ``float32`` elsewhere; ``tf32`` keeps float32 numbers and lets products of
            matrices round their factors to 10 bits, which only GPUs do.

    Raises:
        ConfigError: No such precision.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"one of {', '.join(get_args(Precision))} is needed, but got {precision!r}.", path="resources.precision")
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if own != torch.float32:
        return own
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if precision == "bfloat16" or (precision == "auto" and device.type == "cuda"):
        model.to(torch.bfloat16)
        return torch.bfloat16
    return torch.float32
