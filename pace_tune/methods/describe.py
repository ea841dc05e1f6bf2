"""What each method is on one backbone: trainable parameters, whether it merges, how it starts, where it is defined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from pace_tune.errors import UnsupportedError
from pace_tune.methods.adapted import Adapted, remove, why_not_merged
from pace_tune.methods.families import FAMILIES
from pace_tune.methods.method import Method
from pace_tune.registry import backbones, methods


def describe(
    backbone_name: str,
    *,
    num_classes: int = 100,
    names: Sequence[str] | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Return one row per method, with its default settings.

    ``parameters`` is without the head and ``with_head`` with it; both are None, and ``refused`` says why, where the method
    is not defined on this backbone or its parameters cannot be told without weights.

    Args:
        num_classes: Outputs of the head.
        names: Which methods; default all.
        progress: Is told what is being counted; all of them on a ViT-B take some twenty seconds.
    """
    progress(f"loading {backbone_name}")
    model = _model(backbone_name, num_classes=num_classes)
    rows = []
    for name in names or methods.names():
        progress(f"counting {name}")
        rows.append(_row(methods.build(name), model))
    return rows


def _model(backbone_name: str, *, num_classes: int) -> nn.Module:
    """Return the backbone, without memory for its weights where it can be had so."""
    cls = backbones.get(backbone_name)
    empty = "random_weights" in cls.field_names()
    with torch.device("meta") if empty else nullcontext():
        model: nn.Module = cls(**({"random_weights": True} if empty else {})).build(num_classes=num_classes)
    return model


def _row(method: Method, model: nn.Module) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": method.name,
        "parameters": None,
        "with_head": None,
        "merges": None,
        "identity_at_start": method.identity_at_start,
        "lanes": method.runs_in_lanes,
        "paper": method.paper,
        "families": [family for family in FAMILIES if family not in method.refused],
        "refused": "",
    }
    try:
        adapted = Adapted(model, [method])
    except UnsupportedError as error:
        return {**row, "refused": str(error)}
    obstacle = why_not_merged(adapted)
    row |= {"parameters": adapted.num_parameters(head=False), "with_head": adapted.num_parameters(), "merges": not obstacle}
    remove(adapted)
    return row
