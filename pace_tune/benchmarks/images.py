"""Images as the engine takes them: uint8 [N, C, H, W] at the backbone's size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pace_tune.errors import UnsupportedError

CHUNK = 256
"""Images resized at once, so that the float copy stays small."""


def resize(x_BCHW: Tensor, *, size: int) -> Tensor:
    """Return uint8 images squeezed to a square of `size` pixels (bicubic, antialiased), whatever their shape.

    Raises:
        UnsupportedError: The backbone takes no images.
    """
    if size <= 0:
        raise UnsupportedError("an image task needs a backbone that takes images, but this one takes text.")
    if x_BCHW.shape[-2:] == (size, size):
        return x_BCHW
    out = x_BCHW.new_empty((*x_BCHW.shape[:2], size, size))
    for start in range(0, len(x_BCHW), CHUNK):
        part = functional.interpolate(x_BCHW[start : start + CHUNK].float(), size=(size, size), mode="bicubic", antialias=True)
        out[start : start + CHUNK] = part.round_().clamp_(0, 255).to(x_BCHW.dtype)
    return out
