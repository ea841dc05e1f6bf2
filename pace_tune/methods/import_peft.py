"""Reading an adapter folder of peft back into an adapted model's parameters: the other way of `export_peft`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pace_tune.errors import ConfigError, DataError
from pace_tune.methods.adapted import Adapted
from pace_tune.methods.lora import LoraDelta
from pace_tune.methods.method import Method
from pace_tune.methods.site import Site
from pace_tune.methods.sites.head import HeadDelta
from pace_tune.methods.vera import VeraDelta

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
Values = dict[str, Tensor]


def import_peft(adapted: Adapted, folder: Path, *, method: Method, config: Mapping[str, Any]) -> Values:
    """Return a peft adapter's parameters by their keys in the bank, the head's where the adapter has one.

    Args:
        adapted: A model with the sites that the adapter is for.
        folder: What `PeftModel.save_pretrained` or `export_peft` wrote.
        method: The settings of the lane that gets them.
        config: The folder's `adapter_config.json`.

    Raises:
        ConfigError: The adapter is not made for these sites, or scales its output otherwise.
        DataError: Its weights are missing or damaged.
    """
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / WEIGHTS}: cannot be read ({error}).") from error
    _require_scale(method, folder, config)
    found: Values = {}
    for name, site in adapted.sites.items():
        inside = f"{PREFIX}{name}."
        own = {key.removeprefix(inside): value for key, value in weights.items() if key.startswith(inside)}
        values = _of_site(site, own, folder)
        found |= {site.delta.shared.get(key, f"{name}/{key}"): value for key, value in values.items()}
    return found


def _of_site(site: Site, own: Values, folder: Path) -> Values:
    if isinstance(site.delta, HeadDelta):
        return own
    if not own and not site.delta.shared:
        raise ConfigError(f"the adapter in {folder} has nothing for {site.name}.", path="init_from.path")
    if isinstance(site.delta, LoraDelta):
        return _lora(site.delta, own, site.name, folder)
    if isinstance(site.delta, VeraDelta):
        return {"d": own["vera_lambda_d"], "b": own["vera_lambda_b"]}
    return {key: _written(key, own, site.name, folder) for key in site.delta.init(torch.Generator().manual_seed(0))}


def _written(key: str, own: Values, name: str, folder: Path) -> Tensor:
    """Return what peft's file holds for a parameter; it leaves the adapter's name out, and DoRA's `weight` too."""
    short = key.replace(".default", "")
    found = own.get(short, own.get(short.removesuffix(".weight")))
    if found is None:
        # Types whose layers share vectors keep those once for the whole model, under names of their own.
        advice = "start from the folder of its run instead"
        raise ConfigError(f"the adapter in {folder} keeps {short} of {name} elsewhere; {advice}.", path="init_from.path")
    return found


def _lora(delta: LoraDelta, own: Values, name: str, folder: Path) -> Values:
    """Take A and B apart by the rows that they are for."""
    up, down = own["lora_A.weight"], own["lora_B.weight"]
    ranks = torch.arange(down.shape[1]).chunk(len(delta.rows))
    values: Values = {}
    rest = down.clone()
    for (rows, part), columns in zip(delta.rows.items(), ranks, strict=True):
        place = (part, slice(int(columns[0]), int(columns[-1]) + 1))
        values |= {f"up{rows}": up[columns], f"down{rows}": down[place]}
        rest[place] = 0
    if rest.any():
        raise ConfigError(f"the adapter in {folder} changes rows of {name} that this method does not.", path="method.targets")
    return values


def _require_scale(method: Method, folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse numbers that mean another delta here: LoRA's are multiplied by alpha / rank."""
    ours = method.scalars().get("scale")
    if config.get("peft_type") != "LORA" or ours is None:
        return
    rank = float(config["r"])
    theirs = float(config["lora_alpha"]) / (rank**0.5 if config.get("use_rslora") else rank)
    if abs(theirs - ours) > 1e-6 * abs(ours):
        rule = f"{method.name!r} scales by alpha / rank = {ours:g}"
        raise ConfigError(f"{rule}, but the adapter in {folder} by {theirs:g}.", path="method.alpha")
