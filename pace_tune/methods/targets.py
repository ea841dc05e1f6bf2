"""Which linear layers a method adapts, as a user writes it: ``qkv``, ``q,v``, ``qv``, ``attn_out,mlp_in``, ``all``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from pace_tune.errors import ConfigError, UnsupportedError, did_you_mean
from pace_tune.methods.layout import Layout, Place

ROLES = ("attn_out", "mlp_in", "mlp_out", "gate")


@dataclass(frozen=True)
class Target:
    """A linear layer, or some rows of it.

    Attributes:
        rows: What they make (q, k, v) -> which rows; ``{"": all}`` for the whole layer.
    """

    place: Place
    rows: Mapping[str, slice]


def _checked(text: str) -> str:
    words = _words(text)
    wrong = next((word for word in words if word not in (*ROLES, "all") and set(word) - set("qkv")), None)
    if wrong is not None or not words:
        raise ConfigError(f"unknown layers {wrong or text!r}.{did_you_mean(wrong or text, (*ROLES, 'all', 'qkv', 'qv'))}")
    return text


Targets = Annotated[str, AfterValidator(_checked)]
"""Names of linear layers, separated by commas: ``q``, ``k``, ``v`` in any combination, ``attn_out``, ``mlp_in``, ``mlp_out``,
``gate``, or ``all``."""


def targets_of(layout: Layout, text: str, *, method: str) -> Iterator[Target]:
    """Yield the layers in order of depth.

    Raises:
        UnsupportedError: The model has none of those that are named.
    """
    words = _words(text)
    parts = "".join(word for word in words if not set(word) - set("qkv"))
    roles = {word for word in words if word in ROLES}
    found = 0
    for place in layout.linears():
        rows = _rows(layout, place, parts) if place.role == "qkv" else {}
        if "all" in words or place.role in roles or place.role in set(parts):
            rows = {"": slice(0, place.linear.out_features)}
        if rows:
            found += 1
            yield Target(place, rows)
    if not found:
        raise UnsupportedError(f"method {method!r} adapts {text}, and a model of family {layout.family!r} has no such layers.")


def _rows(layout: Layout, place: Place, parts: str) -> dict[str, slice]:
    fused = layout.fused(place)
    if set(parts) >= set(fused):
        return {"": slice(0, place.linear.out_features)}
    return {part: rows for part, rows in fused.items() if part in parts}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
