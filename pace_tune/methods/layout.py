"""Where things are in a model: blocks, linear layers, norms, head. Data, one table row per architecture family."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from pace_tune.errors import UnsupportedError


@dataclass(frozen=True)
class Family:
    """Names of one architecture family, as patterns that match whole module names.

    Attributes:
        block: Matches a block's module name; its groups are the numbers that order it.
        roles: Role -> module name relative to the block.
        linears: Matches further linear layers that methods adapt, with the numbers of the block that they count as.
        head: Names of the classification head, first match wins.
        embed: Module after the position embedding, where a delta of the embedded tokens goes.
    """

    block: str
    roles: dict[str, str]
    head: tuple[str, ...]
    linears: str = ""
    final_norm: str = ""
    patch: str = ""
    embed: str = ""
    first_block_quiet: bool = False
    """Whether sigma is 0 in block 0 (the released code does so on ViT and not on Swin)."""


_TIMM_ROLES = {
    "qkv": "attn.qkv",
    "attn_out": "attn.proj",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
    "attn": "attn",
    "mlp": "mlp",
}

FAMILIES: dict[str, Family] = {
    "vit": Family(
        block=r"blocks\.(\d+)",
        roles=_TIMM_ROLES,
        head=("head",),
        final_norm="norm",
        patch="patch_embed.proj",
        embed="pos_drop",
        first_block_quiet=True,
    ),
    "swin": Family(
        block=r"layers\.(\d+)\.blocks\.(\d+)",
        roles=_TIMM_ROLES,
        head=("head.fc",),
        linears=r"layers\.(\d+)\.downsample\.reduction",
        final_norm="norm",
        patch="patch_embed.proj",
    ),
}


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
        embed: The module right after the position embedding, where the family's table names one.
    """

    family: str
    depth: int
    places: tuple[Place, ...] = field(repr=False)
    holders: tuple[Place, ...] = field(repr=False)
    head: Place | None
    embed: Place | None

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
    family = next((key for key, row in FAMILIES.items() if any(re.fullmatch(row.block, name) for name in modules)), "linear")
    head_name = _head_name(modules, family) if head == "auto" else head
    places, depth = _table_places(modules, FAMILIES[family]) if family in FAMILIES else _plain_places(modules, head_name)
    head_place = None
    if head_name is not None:
        if not isinstance(modules.get(head_name), nn.Linear):
            raise UnsupportedError(f"the head must be a linear layer, but {head_name!r} is {type(modules.get(head_name)).__name__}.")
        head_place = Place(head_name, modules[head_name], depth, "head")
    known = {place.name: place for place in places}
    holders = tuple(
        known.get(name, Place(name, module, 0, ""))
        for name, module in modules.items()
        if name != head_name and any(True for _ in module.parameters(recurse=False))
    )
    embed_name = FAMILIES[family].embed if family in FAMILIES else ""
    embed = Place(embed_name, modules[embed_name], 0, "embed") if embed_name else None
    return Layout(family, depth, tuple(p for p in places if p.name != head_name), holders, head_place, embed)


def _head_name(modules: dict[str, nn.Module], family: str) -> str | None:
    if family in FAMILIES:
        return next((name for name in FAMILIES[family].head if isinstance(modules.get(name), nn.Linear)), None)
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
