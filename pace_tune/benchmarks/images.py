"""Images as the engine takes them: uint8 [N, C, H, W] at the backbone's size, or with a margin that it crops."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pace_tune.errors import UnsupportedError

if TYPE_CHECKING:  # A study is checked without torch.
    from PIL.Image import Image
    from torch import Tensor

CHUNK = 256
"""Images resized at once, so that the float copy stays small."""

Fit = Literal["squash", "shorter", "square"]
"""How a photograph becomes a square of the backbone's size S (all bicubic, antialiased):

squash: straight to S x S. The VTAB-1k protocol.
shorter: the shorter side to 8/7 S, the middle square of that kept. With the engine's crop of S: Resize(256), CenterCrop(224).
square: straight to 8/7 S x 8/7 S. With the engine's crop: the domain-generalisation protocol's evaluation.
"""


class Source(Protocol):
    """An encoded image, wherever it lies."""

    @property
    def name(self) -> str:
        """Which image it is: equal for two lines that name the same one."""
        ...

    @property
    def where(self) -> str:
        """What to call it in a message: the file, and the line that names it."""
        ...

    def stamp(self) -> str:
        """Return what changes when the image does, without reading it."""
        ...

    def read(self) -> bytes:
        """Return the encoded bytes."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """An image in a file of its own.

    Args:
        origin: The list and line that name it; empty where the folder itself is the list.
    """

    path: Path
    origin: str = ""

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def where(self) -> str:
        """The path, and who names it."""
        return f"{self.path} ({self.origin})" if self.origin else str(self.path)

    def stamp(self) -> str:
        """Return size and time of change."""
        status = self.path.stat()
        return f"{status.st_size}:{status.st_mtime_ns}"

    def read(self) -> bytes:
        """Return the file."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class ImageBytes:
    """An image inside a table.

    Args:
        where: The table's file and row.
    """

    data: bytes
    where: str

    @property
    def name(self) -> str:
        """The row."""
        return self.where

    def stamp(self) -> str:
        """Return a checksum: the bytes are at hand."""
        import zlib

        return f"{len(self.data)}:{zlib.crc32(self.data)}"

    def read(self) -> bytes:
        """Return the bytes."""
        return self.data


def stored_size(size: int, *, fit: Fit) -> int:
    """Return the side of the images that a task delivers for a backbone of `size` pixels.

    Raises:
        UnsupportedError: The backbone takes no images.
    """
    if size <= 0:
        raise UnsupportedError("an image task needs a backbone that takes images, but this one takes text.")
    return size if fit == "squash" else round(size * 8 / 7)


def decode(data: bytes, *, side: int, fit: Fit, channels: int = 3) -> NDArray[np.uint8]:
    """Return one image, uint8 [C, side, side].

    Raises:
        OSError: The bytes are no whole image.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            plain = image.convert("L" if channels == 1 else "RGB")
    # Of a PNG with a broken chunk, and of sides that no memory holds.
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error
    pixels = np.asarray(_fitted(plain, side=side, fit=fit))
    return pixels.reshape(side, side, -1).transpose(2, 0, 1)


def _fitted(image: Image, *, side: int, fit: Fit) -> Image:
    from PIL import Image

    if fit != "shorter":
        return image.resize((side, side), Image.Resampling.BICUBIC)
    width, height = image.size
    short = min(width, height)
    # The long side is cut down, not rounded, as torchvision's Resize does it.
    wide, high = max(side, int(side * width / short)), max(side, int(side * height / short))
    left, top = round((wide - side) / 2), round((high - side) / 2)
    return image.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))


def resize(x_BCHW: Tensor, *, size: int) -> Tensor:
    """Return uint8 images squeezed to a square of `size` pixels (bicubic, antialiased), whatever their shape.

    Raises:
        UnsupportedError: The backbone takes no images.
    """
    from torch.nn import functional

    size = stored_size(size, fit="squash")
    if x_BCHW.shape[-2:] == (size, size):
        return x_BCHW
    out = x_BCHW.new_empty((*x_BCHW.shape[:2], size, size))
    for start in range(0, len(x_BCHW), CHUNK):
        part = functional.interpolate(x_BCHW[start : start + CHUNK].float(), size=(size, size), mode="bicubic", antialias=True)
        out[start : start + CHUNK] = part.round_().clamp_(0, 255).to(x_BCHW.dtype)
    return out
