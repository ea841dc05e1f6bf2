"""Where things are in one model: blocks, linear layers, norms, head, as its family's row of names says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from pace_tune.errors import UnsupportedError
from pace_tune.methods.families import FAMILIES, Family

READERS = {"norm1": ("qkv", "q", "k", "v"), "norm2": ("mlp_in", "gate")}
"""Which layers of a pre-norm block read which norm."""


@dataclass(frozen=True)
class Place:
    """A module that a site can wrap.

    Attributes:
        level: Depth of its block, 0 for the first; the head has the number of blocks.
        role: What it is in its block (``qkv``, ``mlp_in``, ...), or ``linear`` where no table names it.
    """

    name: str
    module: nn.Module = field(repr=False)
    level: int
    role: str

    @property
    def linear(self) -> nn.Linear:
        """The module, which must be a linear layer."""
        if not isinstance(self.module, nn.Linear):
            raise UnsupportedError(f"{self.name} is a {type(self.module).__name__}, not a linear layer.")
        return self.module


@dataclass(frozen=True)
class Layout:
    """The places of one model.

    Attributes:
        family: Key of `FAMILIES`, or ``linear`` for a model that no table describes.
        depth: Number of blocks; the head's level.
        places: Modules in the blocks (and Swin's patch merging), in order of depth.
        holders: Every module that holds parameters itself, the model (named "") included, the head not.
        head: Place of the classification head, or None.
        head_parts: Layers before the head that train fully with it.
        embed: The module right after the position embedding, where the family's table names one.
        patch: The patch embedding, where the family's table names one.
        final_norm: The norm after the last block, likewise.
    """

    family: str
    depth: int
    places: tuple[Place, ...] = field(repr=False)
    holders: tuple[Place, ...] = field(repr=False)
    head: Place | None
    head_parts: tuple[Place, ...]
    embed: Place | None
    patch: Place | None
    final_norm: Place | None

    @property
    def table(self) -> Family | None:
        """The family's row, or None for ``linear``."""
        return FAMILIES.get(self.family)

    def linears(self, *roles: str) -> Iterator[Place]:
        """Yield the adaptable linear layers in order of depth, all or those with one of the roles."""
        for place in self.places:
            if isinstance(place.module, nn.Linear) and (not roles or place.role in roles):
                yield place

    def role(self, role: str) -> Iterator[Place]:
        """Yield every place with a role, in order of depth."""
        yield from (place for place in self.places if place.role == role)

    def beside(self, place: Place, *roles: str) -> list[Place]:
        """Return what has these roles in the block that a place is in."""
        return [other for other in self.places if other.level == place.level and other.role in roles]

    def readers(self, norm: Place) -> list[Place]:
        """Return the linear layers that read a norm's output, and nothing else does.

        Raises:
            UnsupportedError: The residual stream reads it too.
        """
        if self.table is None or self.table.post_norm:
            raise UnsupportedError(f"{norm.name} feeds the residual stream, not only linear layers.")
        return self.beside(norm, *READERS[norm.role])

    def fused(self, place: Place) -> dict[str, slice]:
        """Return the rows of a layer by what they make: q, k and v of a fused one, everything ("") else."""
        if place.role != "qkv":
            return {"": slice(0, place.linear.out_features)}
        q = self.beside(place, "attn_out")[0].linear.in_features
        kv = (place.linear.out_features - q) // 2  # fewer than q where keys and values are shared by groups of heads
        return {"q": slice(0, q), "k": slice(q, q + kv), "v": slice(q + kv, q + 2 * kv)}

    def require_role(self, role: str, *, method: str) -> list[Place]:
        """Return every place with a role.

        Raises:
            UnsupportedError: The model has none, so that `method` is not defined on it.
        """
        found = list(self.role(role))
        if not found:
            raise UnsupportedError(f"method {method!r} needs modules of role {role!r}, and a model of family {self.family!r} has none.")
        return found


def layout_of(model: nn.Module, *, head: str | None = "auto") -> Layout:
    """Describe a model.

    Args:
        model: A timm or transformers model, or anything made of `nn.Linear`.
        head: Name of the classification head; ``auto`` asks the family's table, else takes the last linear layer;
            None for no head.
    """
    modules = dict(model.named_modules())
    family = next((key for key, row in FAMILIES.items() if _describes(row, modules)), "linear")
    row = FAMILIES.get(family)
    head_name = _head_name(modules, row) if head == "auto" else head
    places, depth = _table_places(modules, row) if row else _plain_places(modules, head_name)
    head_place = None if head_name is None else _head_place(modules, head_name, depth)
    known = {place.name: place for place in places}

    def outside(name: str, role: str) -> Place | None:
        return Place(name, modules[name], 0, role) if name and name in modules else None

    parts = row.head_parts if row and head_name in row.head else ()
    head_parts = tuple(Place(name, modules[name], depth, "head_part") for name in parts)
    holders = tuple(
        known.get(name, Place(name, module, 0, ""))
        for name, module in modules.items()
        if name not in (head_name, *parts) and any(True for _ in module.parameters(recurse=False))
    )
    return Layout(
        family,
        depth,
        tuple(p for p in places if p.name != head_name),
        holders,
        head_place,
        head_parts,
        embed=outside(row.embed, "embed") if row else None,
        patch=outside(row.patch, "patch") if row else None,
        final_norm=outside(row.final_norm, "final_norm") if row else None,
    )


def _describes(row: Family, modules: dict[str, nn.Module]) -> bool:
    blocks = [name for name in modules if re.fullmatch(row.block, name)]
    return bool(blocks) and (not row.marker or f"{blocks[0]}.{row.marker}" in modules)


def _head_place(modules: dict[str, nn.Module], name: str, depth: int) -> Place:
    if not isinstance(modules.get(name), nn.Linear):
        raise UnsupportedError(f"the head must be a linear layer, but {name!r} is {type(modules.get(name)).__name__}.")
    return Place(name, modules[name], depth, "head")


def _head_name(modules: dict[str, nn.Module], row: Family | None) -> str | None:
    if row is not None:
        return next((name for name in row.head if isinstance(modules.get(name), nn.Linear)), None)
    linears = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None


def _table_places(modules: dict[str, nn.Module], row: Family) -> tuple[list[Place], int]:
    blocks = {name: match.groups() for name in modules if (match := re.fullmatch(row.block, name))}
    order = {key: level for level, key in enumerate(sorted(blocks.values(), key=_numbers))}
    roles = {relative: role for role, relative in row.roles.items()}
    places = []
    for name, module in modules.items():
        if name in blocks:
            places.append(Place(name, module, order[blocks[name]], "block"))
            continue
        block = next((b for b in _parents(name) if b in blocks), None)
        if block is not None:
            role = roles.get(name[len(block) + 1 :], "linear" if isinstance(module, nn.Linear) else "")
            places.append(Place(name, module, order[blocks[block]], role))
        elif row.linears and (match := re.fullmatch(row.linears, name)):
            # Patch merging counts as its stage's first block, as in the released code.
            stage = min((key for key in order if key[: len(match.groups())] == match.groups()), key=_numbers)
            places.append(Place(name, module, order[stage], "linear"))
    return sorted(places, key=lambda p: p.level), len(order)


def _plain_places(modules: dict[str, nn.Module], head: str | None) -> tuple[list[Place], int]:
    names = [name for name, module in modules.items() if isinstance(module, nn.Linear) and name != head]
    keys = {name: tuple(int(part) for part in name.split(".") if part.isdigit()) for name in names}
    if len(set(keys.values())) < 2:  # no numbered blocks: every layer is its own
        keys = {name: (i,) for i, name in enumerate(names)}
    order = {key: level for level, key in enumerate(sorted(set(keys.values())))}
    return [Place(name, modules[name], order[keys[name]], "linear") for name in names], len(order)


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:end])


def _numbers(key: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(int(part) for part in key)
