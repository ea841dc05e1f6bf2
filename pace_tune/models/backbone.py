"""What every backbone is: a frozen choice that builds a pretrained model and says what it wants to be fed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, PlainSerializer

from pace_tune.component import Component

if TYPE_CHECKING:  # A study is checked without torch; only `build` loads it.
    from torch import nn

Channels = tuple[float, float, float]
LocalPath = Annotated[
    Path,
    # Absolute, because a worker's current folder is another one.
    BeforeValidator(lambda value: Path(value).expanduser().absolute() if isinstance(value, str | Path) else value),
    PlainSerializer(str, return_type=str),
]
"""A path in a configuration, relative to the folder of the command; written back as plain text, absolute."""

Normalisation = Literal["imagenet", "half"]
STATISTICS: dict[Normalisation, tuple[Channels, Channels]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation a channel, for pixels in [0, 1]."""


@dataclass(frozen=True)
class InputSpec:
    """What a backbone is fed: an image size and pixel statistics, or a tokenizer and a length.

    Args:
        image_size: Side of the square image in pixels; 0 for text.
        mean: Per channel, for pixels in [0, 1].
        std: Per channel, for pixels in [0, 1].
        channels: Number of image channels.
        tokenizer: Name or folder of the tokenizer; empty for images.
        max_length: Longest token sequence; 0 for images.

    Example:
        >>> InputSpec.image(32, normalisation="half").mean
        (0.5, 0.5, 0.5)
    """

    image_size: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: int = 3
    tokenizer: str = ""
    max_length: int = 0

    @classmethod
    def image(cls, size: int, *, normalisation: Normalisation) -> InputSpec:
        """Return the spec of a square RGB image with known pixel statistics."""
        mean, std = STATISTICS[normalisation]
        return cls(image_size=size, mean=mean, std=std)


class Backbone(Component, ABC):
    """A pretrained model by name. Freezing it is the engine's part, replacing its head the head site's.

    Args:
        gradient_checkpointing: Run each block again in the backward pass instead of keeping what it computed: less memory, a third
            more time.
    """

    modalities: ClassVar[tuple[str, ...]] = ("image",)
    """Tasks that it can learn, by their `modality`: ``image``, ``text``, or ``causal`` for a language model's own output layer."""

    gradient_checkpointing: bool = False

    @property
    @abstractmethod
    def family(self) -> str:
        """The architecture whose table of sites applies: ``vit``, ``swin``, ``roberta``, ``llama`` ..."""

    def family_here(self) -> str:
        """Return the family as far as it can be told without weights or their libraries; empty where it cannot."""
        return self.family

    @property
    @abstractmethod
    def spec(self) -> InputSpec:
        """What the model is fed."""

    @property
    def timm_call(self) -> tuple[str, dict[str, Any]] | None:
        """Name and arguments by which `timm.create_model` makes this architecture; None where it is not timm's."""
        return None

    def why_no_weights(self) -> str:
        """Return why the weights cannot be had on this machine, as far as a look at names tells; empty where nothing says so."""
        return ""

    @abstractmethod
    def build(self, *, num_classes: int, drop_path: float = 0.0) -> nn.Module:
        """Return the model with its pretrained weights, a fresh head and in evaluation mode.

        Args:
            num_classes: Outputs of the head.
            drop_path: Rate of the last block; it rises linearly with depth from zero.

        Raises:
            DataError: The weights are missing, damaged or those of another architecture.
        """
