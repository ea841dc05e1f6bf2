"""The embedded backbone: a ViT of 0.94 M parameters that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pace_tune.models.backbone import Backbone, InputSpec
from pace_tune.registry import backbones

if TYPE_CHECKING:
    from torch import nn

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 112, "depth": 6, "num_heads": 4}
WEIGHTS = Path(__file__).parent / "weights" / "vit_nano_cifar10.safetensors"


@backbones.register("vit_nano_cifar10")
class VitNanoCifar10(Backbone):
    """ViT, 32-pixel images, 8-pixel patches, width 112, 6 blocks, pretrained on CIFAR-10; in the package.

    Example:
        >>> VitNanoCifar10().spec.image_size
        32
    """

    @property
    def family(self) -> str:
        """The table of sites: timm ViT."""
        return "vit"

    @property
    def timm_call(self) -> tuple[str, dict[str, Any]]:
        """A ViT of timm's with other sizes."""
        return "vit_tiny_patch16_224", dict(SIZES)

    @property
    def spec(self) -> InputSpec:
        """RGB images of 32 pixels, mapped to [-1, 1]."""
        return InputSpec.image(32, normalisation="half")

    def build(self, *, num_classes: int, drop_path: float = 0.0) -> nn.Module:
        """Return the timm `VisionTransformer` with the packaged weights and a fresh head."""
        from timm.models.vision_transformer import VisionTransformer

        from pace_tune.models.weights_file import load_features

        model = VisionTransformer(**SIZES, num_classes=num_classes, drop_path_rate=drop_path)
        load_features(model, WEIGHTS)
        return model.eval()
