"""Models of transformers, from a folder on disk or the hub's cache. Nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from pace_tune.errors import DataError
from pace_tune.models.backbone import Backbone, InputSpec, LocalPath
from pace_tune.models.hub_cache import in_cache
from pace_tune.registry import backbones

if TYPE_CHECKING:
    from torch import nn

HUB_NAMES = {
    "roberta_base": "FacebookAI/roberta-base",
    "bert_base": "google-bert/bert-base-uncased",
    "phi3_mini": "microsoft/Phi-3-mini-4k-instruct",
}
FAMILIES = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "phi3": "phi3", "llama": "llama", "mistral": "llama"}
"""transformers' `model_type` -> our table of sites; others are adapted by their linear layers alone."""

NAMED = {"roberta_base": "roberta", "bert_base": "bert", "phi3_mini": "phi3"}

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""One file, or the list of several."""
Dtype = Literal["float32", "bfloat16", "float16"]


class HfModel(Backbone):
    """A model of transformers.

    Args:
        path: Folder with `config.json`, weights and, for text, tokenizer; null takes the named model from the hub's cache.
        dtype: Of the frozen weights; what trains stays in float32.
        random_weights: The architecture of the folder without its weights: for tests and timings.
    """

    auto_class: ClassVar[str] = ""

    path: LocalPath | None = None
    dtype: Dtype = "float32"
    random_weights: bool = False

    @property
    def source(self) -> str:
        """Where weights and tokenizer come from: a folder, or a hub name.

        Raises:
            DataError: Neither is given.
        """
        if self.path is not None:
            return str(Path(self.path).expanduser())
        if self.name in HUB_NAMES:
            return HUB_NAMES[self.name]
        raise DataError(f"backbone {self.name!r} needs `backbone.path`, a folder with config.json, weights and tokenizer.")

    @property
    def family(self) -> str:
        """The table of sites, by the model type that the configuration names."""
        return FAMILIES.get(self.config().model_type, "linear")

    def family_here(self) -> str:
        """Return the family that the folder's configuration names, or the one of a model called by its name."""
        if self.path is None:
            return NAMED.get(self.name, "")
        try:
            written = json.loads((Path(self.source) / "config.json").read_bytes())
            return FAMILIES.get(written["model_type"], "linear")
        except (OSError, ValueError, KeyError, TypeError):
            return ""  # `build` says what is wrong with it

    def why_no_weights(self) -> str:
        """Return what the folder, or the hub's cache, lacks: only a name or a file is looked for."""
        if self.path is None and self.name not in HUB_NAMES:
            return f"backbone {self.name!r} needs `backbone.path`, a folder with config.json, weights and tokenizer."
        folder = self.path and Path(self.source)
        if folder and not folder.is_dir():
            return f"{folder}: no such folder. {self._ways()}"
        wanted = ("config.json",) if self.random_weights else ("config.json", *WEIGHTS)
        there = [name for name in wanted if ((folder / name).is_file() if folder else in_cache(self.source, name))]
        if "config.json" not in there:
            return f"{self.source}: no model there. {self._ways()}"
        return "" if self.random_weights or there[1:] else f"{self.source}: holds none of {', '.join(WEIGHTS)}. {self._ways()}"

    def config(self) -> Any:
        """Return transformers' configuration of the model.

        Raises:
            DataError: There is none; the ways to provide it are listed.
        """
        from transformers import AutoConfig

        if self.path is not None and not Path(self.source).is_dir():
            raise DataError(f"{self.source}: no such folder. {self._ways()}")
        try:
            return AutoConfig.from_pretrained(self.source, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.source}: no model there. {self._ways()}") from error

    def build(self, *, num_classes: int, drop_path: float = 0.0) -> nn.Module:
        """Return the model with its weights and a fresh head, if it has one; `drop_path` has no place in it.

        Raises:
            DataError: The weights are missing or damaged; the ways to provide them are listed.
        """
        import torch

        config = self._adjusted(self.config(), num_classes=num_classes)
        config.use_cache = False  # training reads no keys of earlier passes; generation asks for them itself
        dtype = getattr(torch, self.dtype)
        # What no checkpoint holds is drawn by transformers; a fixed seed makes it the same in every process.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: nn.Module = self._fresh(config).to(dtype) if self.random_weights else self._loaded(config, dtype)
        return model.eval()

    def model_class(self) -> Any:
        """Return the class of transformers whose `from_pretrained` reads the weights."""
        import transformers

        return getattr(transformers, self.auto_class)

    def _fresh(self, config: Any) -> Any:
        return self.model_class().from_config(config)

    def _loaded(self, config: Any, dtype: Any) -> Any:
        from safetensors import SafetensorError

        from pace_tune.models.quiet import quiet_loading

        try:
            with quiet_loading():
                model, info = self.model_class().from_pretrained(
                    self.source, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(f"{self.source}: cannot be loaded: {reason} {self._ways()}") from error
        lacking = sorted(key for key in info["missing_keys"] if not key.startswith(("classifier", "score", "lm_head")))
        if any(".layer" in key for key in lacking):
            raise DataError(f"{self.source}: weights of another architecture: {lacking[0]} and {len(lacking) - 1} more are missing.")
        return model

    def _adjusted(self, config: Any, *, num_classes: int) -> Any:
        return config

    def _ways(self) -> str:
        """Return how the weights of this model can be provided."""
        named = HUB_NAMES.get(self.name)
        hub = f", or fetch it into the hub's cache: `hf download {named}`" if named else ""
        return f"Set `backbone.path: FOLDER` (config.json, model.safetensors and tokenizer files of {named or 'the model'}){hub}."


class HfText(HfModel):
    """A model of transformers that reads text.

    Args:
        max_length: Longest text in tokens; what is longer is cut.
    """

    modalities: ClassVar[tuple[str, ...]] = ("text",)

    max_length: int = Field(default=128, ge=8)

    @property
    def spec(self) -> InputSpec:
        """Token sequences."""
        return InputSpec(tokenizer=self.source, max_length=self.max_length)


@backbones.register("roberta_base", "bert_base", "hf_classifier")
class HfClassifier(HfText):
    """A transformer of Hugging Face with a fresh classification head, from a folder or the hub's cache.

    Names:
        roberta_base: RoBERTa-base of Hugging Face with a fresh classification head, from a folder or the hub's cache.
        bert_base: BERT-base, uncased, of Hugging Face with a fresh classification head, from a folder or the hub's cache.
        hf_classifier: Any text classifier of Hugging Face with a fresh head, from the folder in `backbone.path`.

    Example:
        >>> HfClassifier(path="models/my-bert", max_length=64).spec.max_length
        64
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def _adjusted(self, config: Any, *, num_classes: int) -> Any:
        config.num_labels = num_classes
        # Padding lies at the end; decoders find the last token by the padding's number.
        if config.pad_token_id is None:
            config.pad_token_id = config.eos_token_id
        return config


@backbones.register("phi3_mini", "hf_causal")
class HfCausal(HfText):
    """A causal language model of Hugging Face with its own output layer, from a folder or the hub's cache.

    Names:
        phi3_mini: Phi-3-mini, 4k context, of Hugging Face, from a folder or the hub's cache.
        hf_causal: Any causal language model of Hugging Face, from the folder in `backbone.path`.

    Example:
        >>> HfCausal(path="models/my-llama").spec.max_length
        512
    """

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    modalities: ClassVar[tuple[str, ...]] = ("causal",)

    max_length: int = Field(default=512, ge=8)
