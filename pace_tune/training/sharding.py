"""A frozen backbone spread over the processes of a team: each keeps a part of every weight, and a block is whole only while it runs.

The sharding is FSDP2's: `fully_shard` divides the weights of a unit (a block, an embedding, a language model's output layer) by their
first axis, and `unshard` and `reshard` gather and free them. Its own hooks are not used, for three reasons. A population is a deep copy
of the model that shares its parameters, and modules under `fully_shard` refuse to be copied. Deltas read frozen weights through the
parameter that they were made with, which its hooks would exchange. And all processes have to stop where one does, which takes a
meeting before every gather. So a unit's weights live in a module of their own, outside of the model, and hooks on the model's blocks
bring them: before a block runs, and when the gradient of its output comes. Between those times the model's parameters keep shape,
type and device, and read as NaN: what reads them unasked does not go unseen.

What trains is small and stays whole in every process; its gradients are summed as in any team. Norms and embeddings of patches, which
are no units, stay whole too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from pace_tune.errors import UnsupportedError
from pace_tune.methods.layout import Layout, layout_of
from pace_tune.methods.spread import mark
from pace_tune.training.team import Team


class Unit:
    """Weights that are gathered and freed together.

    Args:
        parameters: The model's own; they stay the same objects, whole or not.
        mesh: The processes that keep a part each.
        window: Says which units are here.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, mesh: DeviceMesh, window: Window) -> None:
        self.parameters, self.window = list(parameters), window
        holder = nn.Module()
        for i, parameter in enumerate(self.parameters):
            holder.register_parameter(str(i), parameter)
            mark(parameter, self)
        # Moves one unit after the other to the device, so that no device ever holds the model whole.
        self._holder = fully_shard(holder, mesh=mesh)
        # One number, read in every place.
        self._absent = [p.new_full((), torch.nan).expand(p.shape) for p in self.parameters]
        self.bytes = sum(p.numel() * p.element_size() for p in self.parameters)
        self.leave()

    def bring(self) -> None:
        """Have the weights here until another unit's are."""
        self.window.bring(self)

    def make_room(self) -> None:
        """Find out whether they fit, while nobody waits for this process yet."""
        device = self._absent[0].device
        if device.type == "cuda":
            torch.empty(2 * self.bytes, dtype=torch.uint8, device=device)  # FSDP2 receives, then copies out

    def gather(self) -> None:
        """Collect the weights from all processes."""
        self._holder.unshard()
        for parameter, whole in zip(self.parameters, self._whole(), strict=True):
            parameter.data = whole.data

    def leave(self) -> None:
        """Free them, but for this process's part. What autograd kept of them is here again when they are."""
        self._holder.reshard()
        for parameter, absent in zip(self.parameters, self._absent, strict=True):
            parameter.data = absent

    def _whole(self) -> Iterator[nn.Parameter]:
        return cast(nn.Module, self._holder).parameters()


class Window:
    """Which units are here: the one that was brought last.

    A backward pass visits blocks in the opposite order, each to its end before the next, so that one is enough.

    Attributes:
        most_bytes: The most that was here at a time.
    """

    def __init__(self, team: Team) -> None:
        self.team, self.most_bytes = team, 0
        self._here: Unit | None = None

    def bring(self, unit: Unit) -> None:
        """Have a unit's weights here, in the place of those that were."""
        if self._here is unit:
            return
        self.clear()
        unit.make_room()
        self.team.check()  # past it, every process gathers the same unit
        with self.team.unbroken():
            unit.gather()
        self._here = unit
        self.most_bytes = max(self.most_bytes, unit.bytes)

    def clear(self) -> None:
        """Let go of what is here."""
        if self._here is not None:
            self._here.leave()
            self._here = None


def shard_backbone(model: nn.Module, *, team: Team, device: torch.device) -> Window:
    """Spread a model's weights over the processes of a team, and have its modules bring them when they run.

    Args:
        model: Where it was built, not yet on `device`; changed in place. What is not spread stays where it is.
        team: All its processes call this with the same model.
        device: Where the parts go.

    Raises:
        UnsupportedError: No table says which blocks the model has.
    """
    layout = layout_of(model)
    blocks = [place.module for place in layout.role("block")]
    if not blocks:
        raise UnsupportedError(f"the weights of a model of family {layout.family!r} cannot be spread: no table says which blocks it has.")
    model.requires_grad_(False)
    window = Window(team)
    team.lockstep, team.on_stop = True, window.clear
    mesh = team.mesh(device)
    owners: dict[int, Unit] = {}
    for door in (*_outside(model, layout), *blocks):
        free = [p for p in _unique(door.parameters()) if p.is_floating_point() and id(p) not in owners]
        # A layer that shares its weight (word embedding and output layer) is a second door to the same unit.
        unit = next((owners[id(p)] for p in door.parameters() if id(p) in owners), None)
        if unit is None and free:
            unit = Unit(free, mesh=mesh, window=window)
            owners.update((id(p), unit) for p in free)
        if unit is not None:
            _bring_at(door, unit)
    return window


def _outside(model: nn.Module, layout: Layout) -> Iterator[nn.Module]:
    """Yield the embeddings and linear layers outside of blocks that no delta changes."""
    inside = {id(module) for place in layout.role("block") for module in place.module.modules()}
    known = {id(place.module) for place in (*layout.places, *layout.head_parts, *filter(None, [layout.head]))}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.Linear) and id(module) not in inside | known:
            yield module


def _unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(p): p for p in parameters}.values())


def _bring_at(door: nn.Module, unit: Unit) -> None:
    """Bring a unit before a module runs, and when the gradient of its output comes. Copies of the module do the same."""

    def enter(_: nn.Module, __: tuple[Any, ...]) -> None:
        unit.bring()

    def back(_: Tensor) -> None:
        unit.bring()

    def leave(_: nn.Module, __: tuple[Any, ...], out: Any) -> None:
        for part in out if isinstance(out, tuple | list) else (out,):
            if isinstance(part, Tensor) and part.requires_grad:
                part.register_hook(back)

    door.register_forward_pre_hook(enter)
    door.register_forward_hook(leave)
