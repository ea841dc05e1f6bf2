"""An adapted model: a frozen backbone with sites, one set of parameters per lane."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pace_tune.errors import UnsupportedError
from pace_tune.methods.bank import ParameterBank
from pace_tune.methods.class_token import Narrowed
from pace_tune.methods.context import LaneContext, generator
from pace_tune.methods.layout import Layout, layout_of
from pace_tune.methods.method import Delta, Method, Placement
from pace_tune.methods.site import Site
from pace_tune.methods.sites.head import HeadDelta
from pace_tune.methods.sites.kinds import site_for
from pace_tune.methods.stochastic import SharedDropPath
from pace_tune.registry import methods

M = TypeVar("M", bound=nn.Module)


class Adapted(nn.Module):
    """A model with deltas. Its parameters are those of the deltas and the head; the model's own are frozen.

    Args:
        model: Changed in place; `remove` gives it back.
        lanes: One method per lane; all of one kind.
        head: Name of the head, ``auto``, or None. See `layout_of`.
        keep_head: Start the head from its present weights; else from PyTorch's default initialisation.
        seeds: One per lane, for the start values.

    Attributes:
        keeps_tokens: Set it where a hook reads all tokens of the last block: for logits it computes the class token alone where that is
            all that they read. See `class_token`.

    Example:
        >>> from torch import nn
        >>> from pace_tune.methods.adapted import adapt
        >>> adapted = adapt(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), method="lora_add", rank=2)
        >>> adapted.num_parameters(head=False)
        32
    """

    def __init__(
        self,
        model: nn.Module,
        lanes: Sequence[Method],
        *,
        head: str | None = "auto",
        keep_head: bool = False,
        seeds: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        self.layout: Layout = layout_of(model, head=head)
        self.context = LaneContext()
        self.keep_head = keep_head
        self._training_flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self.sites: dict[str, Site] = {}
        self.drop_paths: dict[str, SharedDropPath] = {}
        self._share_drop_paths(model)  # before the sites: inside a wrapped block names are longer
        for placement in self._placements(lanes[0]):
            self._add(placement)
        for site in reversed(self._outermost_first()):
            _put(model, site.name, site)
        self._narrowed = Narrowed(model, self.layout, self.context)
        self.keeps_tokens = any(site.delta.mixes_tokens for site in self.sites.values())
        self._mark_blocks()
        self.model = model.requires_grad_(False)
        self.set_lanes(lanes, [self.fresh_lane(m, generator(s)) for m, s in zip(lanes, seeds, strict=True)])

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return logits of all rows, lane-major. Outside of a training step the rows divide evenly into the lanes."""
        if not self.context.in_step:
            first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            self.context.rows = len(first) // self.context.lanes
        with self.context.reading(class_token_alone=not self.keeps_tokens and self._narrowed.allowed(self.model)):
            out = self.model(*args, **kwargs)
        return cast(Tensor, getattr(out, "logits", out))

    @property
    def lanes(self) -> int:
        """K."""
        return self.context.lanes

    def fresh_lane(self, method: Method, rng: torch.Generator) -> dict[str, Tensor]:
        """Return the start values of one lane, key -> tensor in its own shape."""
        values: dict[str, Tensor] = {}
        for placement in self._placements(method):
            for key, tensor in placement.delta.init(rng).items():
                values.setdefault(_bank_key(placement.place.name, placement.delta, key), tensor)
        return method.start(self.layout, values)

    def set_lanes(self, lanes: Sequence[Method], values: Sequence[dict[str, Tensor]]) -> None:
        """Make the lanes be these, each with its parameters in its own shapes (padded here)."""
        self.methods = tuple(lanes)
        self.shapes = [{key: tuple(tensor.shape) for key, tensor in lane.items()} for lane in values]
        padded = {key: tuple(max(sizes) for sizes in zip(*(s[key] for s in self.shapes), strict=True)) for key in self.shapes[0]}
        frozen = next(self.model.parameters())
        self.bank = ParameterBank(padded, lanes=len(lanes), device=frozen.device, dtype=_trained_dtype(frozen.dtype))
        for lane, tensors in enumerate(values):
            self.bank.write(lane, tensors)
        self.context.lanes = len(lanes)
        scalars = {key: self.bank.values_KP.new_tensor([m.scalars()[key] for m in lanes]) for key in lanes[0].scalars()}
        for name, site in self.sites.items():
            own = {key.rpartition("/")[2]: p for key, p in self.bank.parameters.items() if key.rpartition("/")[0] == name}
            own |= {key: self.bank.parameters[shared] for key, shared in site.delta.shared.items()}
            site.bind(own, {} if isinstance(site.delta, HeadDelta) else scalars)

    def lane_values(self, lane: int, *, matrix_KP: Tensor | None = None) -> dict[str, Tensor]:
        """Return a copy of one lane's parameters (or of its part of a matrix like them), in its own shapes."""
        return self.bank.read(lane, self.shapes[lane], matrix_KP=matrix_KP)

    @property
    def head_name(self) -> str:
        """Name of the head's site; empty where the model has none."""
        return self.layout.head.name if self.layout.head else ""

    def changes(self) -> Iterator[Tensor]:
        """Yield theta - theta_0 part by part, (K, ...) each, head excluded; what sites share comes once.

        For linear layers that is (dW, db) and not their factors; for other sites the parameters themselves.
        """
        seen: set[int] = set()
        for site in self.sites.values():
            for part in () if isinstance(site.delta, HeadDelta) else site.changes():
                if isinstance(part, nn.Parameter) and id(part) in seen:
                    continue
                if isinstance(part, nn.Parameter):
                    seen.add(id(part))
                yield part

    @property
    def drops(self) -> bool:
        """Whether a delta has dropout inside."""
        return any(site.delta.dropout > 0 for site in self.sites.values())

    def is_head(self, key: str) -> bool:
        """Whether a parameter is the head's, or that of a layer which is as new as the head."""
        site = self.sites.get(key.rpartition("/")[0])
        return site is not None and isinstance(site.delta, HeadDelta)

    def num_parameters(self, lane: int = 0, *, head: bool = True) -> int:
        """Return how many numbers train in one lane; what several sites share counts once."""
        return sum(torch.Size(shape).numel() for key, shape in self.shapes[lane].items() if head or not self.is_head(key))

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield what trains, and nothing frozen, so that ``AdamW(adapted.parameters())`` is right."""
        yield from self.bank.parameters.values()

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what trains with its key, ``<module>/<parameter>``."""
        for key, parameter in self.bank.parameters.items():
            yield f"{prefix}{key}", parameter

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Adapted:
        """Move or convert everything (`.to`, `.double`, `.cuda`), the bank behind the parameters included."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.bank.move(fn)
        for site in self.sites.values():
            site.scalars = {key: fn(value) for key, value in site.scalars.items()}
        return self

    def take_out(self) -> None:
        """Put everything in the model back; see `remove`."""
        for site in self._outermost_first():
            _put(self.model, site.name, site.base)
        for name, shared in self.drop_paths.items():
            _put(self.model, name, shared.original)
        self._narrowed.take_out(self.model)
        for _, hook in self._hooks:
            hook.remove()
        for parameter, flag in self._training_flags:
            parameter.requires_grad_(flag)

    def _placements(self, method: Method) -> Iterator[Placement]:
        method.check(self.layout)
        yield from method.placements(self.layout)
        for place in (*self.layout.head_parts, *filter(None, [self.layout.head])):
            yield Placement(place, HeadDelta(place.linear, keep=self.keep_head))

    def _add(self, placement: Placement) -> None:
        name = placement.place.name
        kind = placement.site or site_for(placement.delta)
        self.sites[name] = kind(name, placement.place.module, placement.delta, self.context)

    def _outermost_first(self) -> list[Site]:
        """Return the sites so that a block comes before the layers in it: the order to take them out again."""
        return sorted(self.sites.values(), key=lambda site: site.name.count("."))

    def _mark_blocks(self) -> None:
        """Let rows split into views at a block's door, where the family's blocks take the hidden states alone."""
        self.splits_at_blocks = bool(self.layout.table and self.layout.table.first_block_quiet)
        self._hooks: list[tuple[str, RemovableHandle]] = []
        for place in self.layout.role("block") if self.splits_at_blocks else ():

            def split(_: nn.Module, args: tuple[Any, ...], level: int = place.level) -> tuple[Any, ...]:
                return (self.context.split_views(args[0], level=level), *args[1:])

            door = self.sites.get(place.name, place.module)
            self._hooks.append((place.name, door.register_forward_pre_hook(split)))

    def set_drop_path(self, rate: float) -> None:
        """Set the drop rates as timm does: linear in depth, 0 in the first block and `rate` in the last.

        In a model that no table describes they keep the proportions that it was built with.
        """
        levels = {place.name: place.level for place in self.layout.places}
        highest = max((shared.rate for shared in self.drop_paths.values()), default=0.0)
        for name, shared in self.drop_paths.items():
            depth = levels[name] / max(1, self.layout.depth - 1) if name in levels else shared.rate / (highest or 1.0)
            shared.rate = rate * depth

    def _share_drop_paths(self, model: nn.Module) -> None:
        for name, module in list(model.named_modules()):
            if re_drop_path(name) and (hasattr(module, "drop_prob") or isinstance(module, nn.Identity)):
                shared = SharedDropPath(name, module, self.context, rate=getattr(module, "drop_prob", 0.0) or 0.0)
                self.drop_paths[name] = shared
                _put(model, name, shared)


def adapt(
    model: nn.Module, method: str | Method | None = None, *, head: str | None = "auto", seed: int | None = None, **fields: Any
) -> Adapted:
    """Freeze a model and give it trainable deltas.

    Args:
        model: A timm or transformers model, or anything made of `nn.Linear`; changed in place. One that carries adapters of
            peft already keeps those, and only learns to be noisy.
        method: A registered method's name or object, by default ``lora_mul_vpt_add``; `fields` are its settings.
        head: Name of the classification head; it trains fully, from its present weights.
        seed: For the deltas' start values; None draws one from torch's global generator.

    Raises:
        UnknownNameError: No such method.
        UnsupportedError: The method is not defined for this model.

    Example:
        >>> import timm, pace_tune
        >>> vit = timm.create_model("vit_tiny_patch16_224", num_classes=10)
        >>> adapted = pace_tune.adapt(vit, method="lora_add", rank=4)
    """
    from pace_tune.methods.carried import Carried, carries_adapters

    if carries_adapters(model):
        if method is not None or fields:
            raise UnsupportedError("the model carries adapters of peft already: leave out `method`.")
        return Carried(model)
    method = method or "lora_mul_vpt_add"
    built: Method = methods.build({"name": method, **fields} if isinstance(method, str) else method)
    seed = int(torch.randint(2**31, ()).item()) if seed is None else seed
    return Adapted(model, [built], head=head, keep_head=True, seeds=[seed])


def remove(adapted: Adapted) -> nn.Module:
    """Take every delta out and return the model as it was before `adapt`, bit for bit."""
    adapted.take_out()
    return adapted.model


def merge(adapted: Adapted, *, lane: int = 0) -> nn.Module:
    """Return a plain copy of the model with one lane's deltas folded into its weights; outputs are identical.

    Raises:
        UnsupportedError: The method cannot be folded; the sentence says why.
    """
    obstacle = why_not_merged(adapted)
    if obstacle:
        raise UnsupportedError(f"method {adapted.methods[0].name!r} cannot be merged: {obstacle}.")
    inner: dict[int, nn.Module] = {id(shared): copy.deepcopy(shared.original) for shared in adapted.drop_paths.values()}
    for site in reversed(adapted._outermost_first()):
        inner[id(site)] = site.merged(lane, inner)
    plain: nn.Module = copy.deepcopy(adapted.model, dict[int, Any](inner))
    for name, hook in adapted._hooks:
        plain.get_submodule(name)._forward_pre_hooks.pop(hook.id, None)
    adapted._narrowed.take_out(plain)
    for site in adapted.sites.values():
        site.fold(plain, lane)
    return plain


def why_not_merged(adapted: Adapted) -> str:
    """Return what keeps a model's deltas from being folded into its weights; empty where nothing does."""
    return next((site.obstacle for site in adapted.sites.values() if site.obstacle), "")


def share_frozen(model: M) -> M:
    """Return a copy of a model that shares its parameters and buffers: another population on one backbone in memory."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo)


def re_drop_path(name: str) -> bool:
    """Whether a module's name is that of a DropPath, as timm names them."""
    return name.rpartition(".")[2].startswith("drop_path")


def _bank_key(site: str, delta: Delta, key: str) -> str:
    return delta.shared.get(key, f"{site}/{key}")


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _trained_dtype(frozen: torch.dtype) -> torch.dtype:
    """Adapters stay in float32 over a half-precision trunk."""
    return torch.float32 if frozen in (torch.float16, torch.bfloat16) else frozen
