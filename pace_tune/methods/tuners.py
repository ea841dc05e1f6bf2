"""Layers of the `peft` library around frozen layers, made apart from the model that they belong to."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from pace_tune.errors import UnsupportedError
from pace_tune.methods.spread import bring, is_spread

Layers = Mapping[str, nn.Module]
DIVIDING = {
    "C3A": ("block_size", 256),
    "ROAD": ("group_size", 64),
    "VBLORA": ("vector_length", 256),
    "OFT": ("oft_block_size", 32),
    "BOFT": ("boft_block_size", 4),
}
"""Type -> a field that must divide the widths, and peft's default."""
COUNTING = {"FOURIERFT": ("n_frequency", 1000), "WAVEFT": ("n_frequency", 2592)}
"""Type -> a field that can be no more than a layer's weights, and peft's default."""


class Tuners:
    """Peft's layers around some layers of a model.

    Args:
        config: Peft's configuration without its targets.
        layers: Name -> frozen layer.
        feedforward: Which of them IA3 treats as the second layer of an MLP.
    """

    def __init__(self, config: Mapping[str, Any], *, peft_type: str, layers: Layers, feedforward: frozenset[str] = frozenset()) -> None:
        self.config, self.peft_type, self.layers, self.feedforward = dict(config), peft_type, dict(layers), feedforward
        self._started: tuple[int, dict[str, nn.Module]] | None = None

    @cached_property
    def built(self) -> dict[str, nn.Module]:
        """Name -> peft's layer. What is random in it and frozen is the same at every call."""
        return self._build(seed=0)

    def layer(self, name: str) -> nn.Module:
        """Return peft's layer around one layer."""
        return self.built[name]

    def start(self, name: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Return a layer's trainable parameters. The first call draws the numbers of all layers: some share theirs."""
        if self._started is None or self._started[0] != id(generator):
            seed = int(torch.randint(2**31, (), generator=generator))
            self._started = (id(generator), self._build(seed=seed))
        return {key: value.detach().clone() for key, value in _trainable(self._started[1][name]).items()}

    def shared(self, name: str) -> dict[str, str]:
        """Return those of a layer's parameters that other layers hold too -> their common name."""
        built = self._started[1] if self._started else self.built
        owners: dict[int, list[str]] = {}
        for owner, layer in built.items():
            for parameter in _trainable(layer).values():
                owners.setdefault(id(parameter), []).append(owner)
        own = _trainable(built[name])
        return {key: f"shared/{owners[id(p)][0]}.{key}" for key, p in own.items() if len(owners[id(p)]) > 1}

    @property
    def _empty(self) -> bool:
        return any(parameter.is_meta for layer in self.layers.values() for parameter in layer.parameters())

    def _build(self, *, seed: int) -> dict[str, nn.Module]:
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model

        # Some types group layers by the last part of their names, so the box has the model's tree.
        box = _tree(self.layers)
        fields = {"target_modules": pattern(self.layers), **fitted(self.peft_type, self.layers), **self.config}
        if self.peft_type == "IA3":
            fields["feedforward_modules"] = pattern(self.feedforward)
        before = [_weight_sum(layer) for layer in self.layers.values()]
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            try:
                get_peft_model(box, PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[self.peft_type]](**fields), autocast_adapter_dtype=False)
            except (ValueError, TypeError, AssertionError, NotImplementedError, RuntimeError) as error:
                reason = "its parameters depend on the weights, and there are none" if self._empty else f"it refuses: {error}"
                raise UnsupportedError(f"peft's {self.peft_type} does not fit: {reason}") from error
        after = [_weight_sum(layer) for layer in self.layers.values()]
        if any(was != now for was, now in zip(before, after, strict=True)):
            raise UnsupportedError(f"peft's {self.peft_type} with these options changes the pretrained weights.")
        built = {name: box.get_submodule(name).eval() for name in self.layers}
        if any(is_spread(layer) for layer in self.layers.values()) and not all(map(_is_finite, built.values())):
            raise UnsupportedError(f"peft's {self.peft_type} with these options makes its first numbers of weights that are spread.")
        return built


def fitted(peft_type: str, layers: Layers) -> dict[str, int]:
    """Return the sizes that peft's defaults leave to the user where they do not fit every width: the nearest that do."""
    shapes = [layer.weight.shape for layer in layers.values() if isinstance(layer, nn.Linear)]
    if peft_type in DIVIDING and shapes:
        key, most = DIVIDING[peft_type]
        widths = math.gcd(*(size for shape in shapes for size in shape))
        return {key: max(size for size in range(1, most + 1) if widths % size == 0)}
    if peft_type in COUNTING and shapes:
        key, most = COUNTING[peft_type]
        return {key: min(most, *(shape.numel() for shape in shapes))}
    return {}


def pattern(names: Iterable[str]) -> str:
    """Return what peft matches whole names with. A list would not do: it takes each entry for the end of a name."""
    return "|".join(map(re.escape, names)) or "none"


def _tree(layers: Layers) -> nn.Module:
    root = nn.Module()
    for name, layer in layers.items():
        node = root
        *parents, leaf = name.split(".")
        for part in parents:
            if part not in node._modules:
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        node.add_module(leaf, layer)
    return root


def _trainable(layer: nn.Module) -> dict[str, nn.Parameter]:
    return {key: parameter for key, parameter in layer.named_parameters() if parameter.requires_grad}


def _is_finite(tuner: nn.Module) -> bool:
    """Whether what peft's layer has beside the frozen one is; weights that are away read as NaN."""
    own = {**dict(tuner.named_parameters()), **dict(tuner.named_buffers())}
    return all(bool(tensor.isfinite().all()) for key, tensor in own.items() if not key.startswith("base_layer."))


def _weight_sum(layer: nn.Module) -> float:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    bring(layer)
    return 0.0 if weight.is_meta else float(weight.detach().double().abs().sum())
