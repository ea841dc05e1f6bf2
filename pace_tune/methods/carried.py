"""A model that brings adapters of its own, those of the `peft` library: nothing in it is replaced, hooks make it noisy.

out = base(x) + z * (layer(x) - base(x)) at each of peft's layers. Parameters, names and files stay peft's, so that its
`save_pretrained` and every trainer of transformers go on working.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NoReturn, cast

import torch
from torch import Tensor, nn

from pace_tune.errors import UnsupportedError
from pace_tune.methods.adapted import Adapted, re_drop_path
from pace_tune.methods.bank import ParameterBank
from pace_tune.methods.context import LaneContext
from pace_tune.methods.layout import Layout, Place, layout_of
from pace_tune.methods.method import Delta, Method, Placement
from pace_tune.methods.site import Site
from pace_tune.methods.stochastic import SharedDropPath

MERGE = "its adapters are peft's own, which `merge_and_unload` of peft merges"


class CarriedMethod(Method):
    """Whatever the model brings."""

    name: ClassVar[str] = "peft (carried)"

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Raise: the places are taken already."""
        raise UnsupportedError("the model carries adapters already.")


class CarriedDelta(Delta):
    """A delta whose parameters are peft's."""

    mergeable = False
    why_not = MERGE

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return nothing: there is nothing of ours to start."""
        return {}


class CarriedSite(Site):
    """A layer of peft, seen from a hook on it. It is not put into the model.

    Args:
        head: The layer is the classification head: its base is zero.
    """

    def __init__(self, name: str, layer: nn.Module, context: LaneContext, *, head: bool = False) -> None:
        super().__init__(name, layer, CarriedDelta(), context)
        self.head = head
        self.handle = layer.register_forward_hook(self._after)

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return _width(self._plain) or 0

    @property
    def _plain(self) -> Any:
        return self.base if self.head else cast(Any, self.base).get_base_layer()

    def _after(self, _: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor | None:
        """Take the layer's output and return what it is with noise, or without adapters; None leaves it as it is."""
        if self.head:
            return None if self.context.noise(self.name) is None else self.alone(self.context.per_lane(out)).reshape(out.shape)
        if not self.context.adapters_on:
            return cast(Tensor, self._plain(*args))
        if self.context.noise(self.name) is None:
            return None
        base = self._plain(*args)
        return self.join(base, (out - base).reshape(1, -1, out.shape[-1]))

    def merged(self, lane: int, inner: Mapping[int, nn.Module]) -> nn.Module:
        """Raise: see `obstacle`."""
        raise UnsupportedError(MERGE)


class _NoBank:
    """Stands where an adapted model keeps its parameters. Objectives that move them themselves find none here."""

    def __init__(self, like: Tensor) -> None:
        self._like = like

    @property
    def values_KP(self) -> Tensor:  # noqa: N802  (a bank's name)
        """Nothing, of the right type and on the right device."""
        return self._like.detach().new_zeros(1, 0)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedError("this objective changes the deltas itself, and those of a model that carries peft adapters are peft's own.")


class Carried(Adapted):
    """A peft model in the place of an `Adapted` one: for every objective that works on outputs.

    DropPath and dropout: DropPath masks are drawn once for all views; dropout, peft's included, stays off (`eval`), for its
    masks would differ between views.

    Args:
        model: A `peft.PeftModel`, or any model with layers of peft in it; it trains what it trained before.

    Raises:
        UnsupportedError: It carries none.

    Example:
        >>> from peft import LoraConfig, get_peft_model
        >>> from torch import nn
        >>> model = get_peft_model(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), LoraConfig(r=2, target_modules=["0"]))
        >>> list(Carried(model).sites)
        ['0']
    """

    def __init__(self, model: nn.Module) -> None:
        nn.Module.__init__(self)
        inner = inner_model(model)
        layers = tuner_layers(inner)
        if not layers:
            raise UnsupportedError("the model carries no adapters of peft: `peft.get_peft_model` adds some, or `pace_tune.adapt` ours.")
        self.context = LaneContext()
        self.methods, self.keep_head, self.splits_at_blocks, self.keeps_tokens = (CarriedMethod(),), True, False, True
        self.layout = _layout(inner, layers)
        self.sites = {name: CarriedSite(name, layer, self.context) for name, layer in layers.items()}
        if self.layout.head:
            self.sites[self.layout.head.name] = CarriedSite(self.layout.head.name, self.layout.head.module, self.context, head=True)
        self.drop_paths: dict[str, SharedDropPath] = {}
        self._hooks = [(name, cast(CarriedSite, site).handle) for name, site in self.sites.items()]
        self._share_drop_paths(inner)
        self.bank = cast(ParameterBank, _NoBank(next(p for p in model.parameters() if p.requires_grad)))
        self.model = model.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return logits, as `Adapted` does."""
        if self.context.in_step and any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules()):
            raise UnsupportedError("gradient checkpointing runs layers again when the noise is gone; switch it off.")
        return super().forward(*args, **kwargs)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield what trains."""
        yield from (parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what trains, with the model's own names."""
        yield from ((prefix + name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad)

    def num_parameters(self, lane: int = 0, *, head: bool = True) -> int:
        """Return how many numbers train."""
        own = {id(parameter) for parameter in self.layout.head.module.parameters()} if self.layout.head else set()
        return sum(parameter.numel() for parameter in self.parameters() if head or id(parameter) not in own)

    def _share_drop_paths(self, model: nn.Module) -> None:
        for name, module in model.named_modules():
            if re_drop_path(name) and getattr(module, "drop_prob", None):
                shared = SharedDropPath(name, module, self.context, rate=float(module.drop_prob))
                self.drop_paths[name] = shared
                self._hooks.append((name, module.register_forward_hook(lambda _, __, out, shared=shared: shared(out))))

    def take_out(self) -> None:
        """Take the hooks off."""
        for _, hook in self._hooks:
            hook.remove()

    def _apply(self, fn: Any, recurse: bool = True) -> Carried:
        nn.Module._apply(self, fn, recurse)
        return self


def carries_adapters(model: nn.Module) -> bool:
    """Whether layers of peft are in a model."""
    return bool(tuner_layers(inner_model(model)))


def inner_model(model: nn.Module) -> nn.Module:
    """Return what is inside a `PeftModel`; other models as they are."""
    wrapped: Any = model
    return cast(nn.Module, wrapped.get_base_model()) if hasattr(model, "get_base_model") and hasattr(model, "peft_config") else model


def tuner_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return peft's layers around linear ones, in the order of the model."""
    import sys

    if "peft" not in sys.modules:  # then nobody can have put its layers in
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    return {name: cast(nn.Module, layer) for name, layer in layers.items() if _width(layer.get_base_layer()) is not None}


def _width(layer: Any) -> int | None:
    """Return the channels of a linear layer's output, None for other layers."""
    return next((int(getattr(layer, key)) for key in ("out_features", "nf") if hasattr(layer, key)), None)


def _layout(model: nn.Module, layers: dict[str, nn.Module]) -> Layout:
    """Describe a model as it was before its linear layers were wrapped, with the layer that trains fully as head."""
    layout = layout_of(model, head=None)
    levels = {place.name: place.level for place in layout.places}
    places = [Place(name, layer, levels.get(name, levels.get(f"{name}.base_layer", 0)), "linear") for name, layer in layers.items()]
    blocks = list(layout.role("block"))
    head = _head(model, layers)
    found = Place(head, model.get_submodule(head), layout.depth, "head") if head else None
    return replace(layout, places=tuple(sorted([*blocks, *places], key=lambda place: place.level)), head=found)


def _head(model: nn.Module, layers: dict[str, nn.Module]) -> str | None:
    """Return the name of the last linear layer that trains itself, apart from the adapters; None where none does."""
    inside = tuple(f"{name}." for name in layers)
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad and not name.startswith(inside)
    ]
    return linears[-1] if linears else None


def as_adapted(model: nn.Module) -> Adapted:
    """Return a model that takes objectives: an adapted one as it is, a model of peft through hooks."""
    return model if isinstance(model, Adapted) else Carried(model)
