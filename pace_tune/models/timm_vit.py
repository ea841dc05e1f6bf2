"""Vision transformers by their timm names, with weights from a file or through timm."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from pace_tune.errors import DataError, require
from pace_tune.models.backbone import Backbone, InputSpec, LocalPath, Normalisation
from pace_tune.models.hub_cache import in_cache, offline
from pace_tune.registry import backbones

if TYPE_CHECKING:
    from torch import nn

# timm's own short names have moved between checkpoints over its versions, so each is pinned to a tag here.
TIMM_NAMES = {
    "vit_base_patch16_224": "vit_base_patch16_224.orig_in21k",
    "vit_base_patch16_224_augreg": "vit_base_patch16_224.augreg_in21k",
    "vit_base_patch16_224_mae": "vit_base_patch16_224.mae",
    "vit_base_patch16_224_dino": "vit_base_patch16_224.dino",
    "vit_small_patch16_224": "vit_small_patch16_224.augreg_in21k",
    "vit_tiny_patch16_224": "vit_tiny_patch16_224.augreg_in21k",
    "swin_base_patch4_window7_224": "swin_base_patch4_window7_224.ms_in22k",
}


@backbones.register(
    "vit_base_patch16_224",
    "vit_base_patch16_224_augreg",
    "vit_base_patch16_224_mae",
    "vit_base_patch16_224_dino",
    "vit_small_patch16_224",
    "vit_tiny_patch16_224",
    "swin_base_patch4_window7_224",
)
class TimmTransformer(Backbone):
    """A vision transformer of timm; weights from a local file, or downloaded through timm.

    Names:
        vit_base_patch16_224: timm's ViT-B/16, ImageNet-21k, the original weights (the published protocols' backbone).
        vit_base_patch16_224_augreg: timm's ViT-B/16, ImageNet-21k, the later weights with more augmentation and regularisation.
        vit_base_patch16_224_mae: timm's ViT-B/16, ImageNet-1k without labels, masked autoencoder.
        vit_base_patch16_224_dino: timm's ViT-B/16, ImageNet-1k without labels, self-distillation (DINO).
        vit_small_patch16_224: timm's ViT-S/16, ImageNet-21k, with augmentation and regularisation.
        vit_tiny_patch16_224: timm's ViT-Ti/16, ImageNet-21k, with augmentation and regularisation.
        swin_base_patch4_window7_224: timm's Swin-B, ImageNet-22k.

    Args:
        checkpoint: A `.safetensors`, `.pth` or (ViT) original `.npz` file.
        pretrained: Let timm download the weights, or take them from its cache.
        random_weights: No weights at all: for tests and timings.
        image_size: Side of the image in pixels; position embeddings are resized to it.
        normalisation: ``imagenet`` as in the published protocols, or ``half`` (to [-1, 1]) as these ViTs were pretrained.

    Example:
        >>> TimmTransformer(random_weights=True).spec.image_size
        224
    """

    checkpoint: LocalPath | None = None
    pretrained: bool = False
    random_weights: bool = False
    image_size: int = Field(default=224, gt=0)
    normalisation: Normalisation = "imagenet"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [self.checkpoint is not None, self.pretrained, self.random_weights]
        require(
            sum(sources) <= 1,
            "at most one of checkpoint, pretrained and random_weights",
            checkpoint=self.checkpoint and str(self.checkpoint),
            pretrained=self.pretrained,
            random_weights=self.random_weights,
        )
        return self

    @property
    def timm_name(self) -> str:
        """The exact timm model and weight tag."""
        return TIMM_NAMES[self.name]

    @property
    def family(self) -> str:
        """The table of sites: timm ViT or timm Swin."""
        return "swin" if self.name.startswith("swin") else "vit"

    @property
    def timm_call(self) -> tuple[str, dict[str, Any]]:
        """The model without its weight tag: an export brings its own weights."""
        return self.timm_name.partition(".")[0], {"img_size": self.image_size}

    @property
    def spec(self) -> InputSpec:
        """Square RGB images."""
        return InputSpec.image(self.image_size, normalisation=self.normalisation)

    def why_no_weights(self) -> str:
        """Return that no source of weights is named, or that the named one is not here."""
        if not (self.checkpoint or self.pretrained or self.random_weights):
            return f"{self.name!r} needs weights. {self._ways()}"
        if self.checkpoint and not self.checkpoint.is_file():
            return f"{self.checkpoint}: no such weights file. {self._ways()}"
        if self.pretrained and offline() and not self._cached():
            return f"{self.timm_name}: not in the hub's cache, and this machine is told to stay offline. {self._ways()}"
        return ""

    def _cached(self) -> bool:
        from timm.models import get_pretrained_cfg

        known = get_pretrained_cfg(self.timm_name)
        if known is None or not known.hf_hub_id:
            return True  # elsewhere than on the hub: that is not looked for
        names = (known.hf_hub_filename, "model.safetensors", "pytorch_model.bin")
        return in_cache(known.hf_hub_id, *filter(None, names))

    def build(self, *, num_classes: int, drop_path: float = 0.0) -> nn.Module:
        """Return the timm model with its weights and a fresh head.

        Raises:
            DataError: No source of weights is named, or it cannot be read; the ways to provide them are listed.
        """
        if not self.pretrained and (why := self.why_no_weights()):
            raise DataError(why)
        model = self._create(drop_path=drop_path)
        if self.checkpoint:
            self._load(model, self.checkpoint)
        model.reset_classifier(num_classes)  # type: ignore[operator]
        return model.eval()

    def _create(self, *, drop_path: float) -> nn.Module:
        """Make the model without a classifier: the file's own head is never taken over."""
        import timm

        try:
            model: nn.Module = timm.create_model(
                self.timm_name, pretrained=self.pretrained, num_classes=0, drop_path_rate=drop_path, img_size=self.image_size
            )
        except Exception as error:  # The hub, its cache and the network each raise their own.
            if not self.pretrained:
                raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise DataError(f"{self.timm_name}: timm could not get the weights: {reason[0]} {self._ways()}") from error
        return model

    def _load(self, model: nn.Module, path: Path) -> None:
        from pace_tune.models.weights_file import load_features

        # Each timm architecture knows how to rename and resize the published files of its own kind.
        remap = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
        load_features(model, path, remap=remap)

    def _ways(self) -> str:
        """Return how the weights of this model can be provided."""
        file = "FILE (.npz, .safetensors or .pth)" if self.family == "vit" else "FILE (.safetensors or .pth)"
        return (
            f"Weights of timm {self.timm_name!r}: set `backbone.checkpoint: {file}`, or `backbone.pretrained: true` to download "
            "them through timm, or `backbone.random_weights: true` to try without. `vit_nano_cifar10` is small and brings its own."
        )
