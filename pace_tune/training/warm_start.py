"""A lane that starts from trained parameters instead of its method's own start values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pace_tune.errors import ConfigError
from pace_tune.methods.adapted import Adapted
from pace_tune.methods.import_peft import import_peft
from pace_tune.methods.method import Method
from pace_tune.training.lane_state import LaneState

Tensors = dict[str, Tensor]
Trained = Callable[[Adapted, Method], Tensors]
"""Gives the trained parameters by their keys in the bank."""


def trained(path: Path, *, adapter: Mapping[str, Any]) -> Trained:
    """Return what reads trained parameters into a model's keys.

    Args:
        path: A lane's checkpoint, or the folder of a peft adapter.
        adapter: peft's configuration of it; empty for a checkpoint.
    """
    if adapter:
        return lambda adapted, method: import_peft(adapted, path, method=method, config=adapter)
    values = LaneState.load(path)[0].values
    return lambda _, __: values


def started(fresh: Mapping[str, Tensor], values: Mapping[str, Tensor], adapted: Adapted, *, head: bool) -> Tensors:
    """Return start values: the adapters trained, the head too where it is wanted and has as many outputs, else fresh.

    A head of several layers is taken as a whole or not at all.

    Raises:
        ConfigError: The trained adapters are not of this model's places and shapes.
    """
    heads = {key for key in fresh if adapted.is_head(key)}
    for key in sorted({*fresh, *values} - heads):
        if adapted.is_head(key):
            continue
        theirs, ours = (tuple(tensors[key].shape) if key in tensors else None for tensors in (values, fresh))
        if theirs != ours:
            raise ConfigError(f"the trained {key} has shape {theirs or 'none'}, but this run's {ours or 'none'}.", path="init_from.path")
    fits = all(key in values and values[key].shape == fresh[key].shape for key in heads)
    return {key: value if key in heads and not (head and fits) else values[key] for key, value in fresh.items()}
