"""Vision transformers of Hugging Face, from a folder on disk or the hub's cache. Nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pace_tune.models.backbone import InputSpec, Normalisation
from pace_tune.models.hf_text import HfModel
from pace_tune.registry import backbones

if TYPE_CHECKING:
    from torch import Tensor


@backbones.register("hf_vit")
class HfVit(HfModel):
    """A ViT of transformers (`ViTForImageClassification`), from a folder with config.json and weights.

    Args:
        image_size: Side of the image in pixels; another than the checkpoint's interpolates its position embeddings.
        normalisation: ``half`` (to [-1, 1]) as Google's checkpoints were pretrained, or ``imagenet``.

    Example:
        >>> HfVit(path="models/vit-base-patch16-224-in21k").spec.image_size
        224
    """

    image_size: int = Field(default=224, gt=0)
    normalisation: Normalisation = "half"

    @property
    def spec(self) -> InputSpec:
        """Square RGB images."""
        return InputSpec.image(self.image_size, normalisation=self.normalisation)

    @property
    def family(self) -> str:
        """The table of sites: ViT in transformers' names."""
        return "hf_vit"

    def family_here(self) -> str:
        """The family is the class's, whatever the folder says."""
        return self.family

    def model_class(self) -> Any:
        """Return transformers' class, taking images as timm's do."""
        return _vit_class()

    def _fresh(self, config: Any) -> Any:
        return _vit_class()(config)

    def _adjusted(self, config: Any, *, num_classes: int) -> Any:
        config.num_labels = num_classes
        return config


@cache
def _vit_class() -> type[Any]:
    from transformers import ViTForImageClassification

    class Vit(ViTForImageClassification):
        """A ViT whose images are called `x`."""

        def forward(self, x: Tensor) -> Any:
            """Return logits; images of another size than the checkpoint's get interpolated position embeddings."""
            return super().forward(pixel_values=x, interpolate_pos_encoding=x.shape[-1] != self.config.image_size)

    return Vit
