"""Writing trained deltas as an adapter folder that `peft.PeftModel.from_pretrained` loads with equal outputs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pace_tune.errors import UnsupportedError
from pace_tune.methods.adapted import Adapted
from pace_tune.methods.lora import Lora, LoraDelta
from pace_tune.methods.peft_family import PeftFamily
from pace_tune.methods.site import Site
from pace_tune.methods.sites.head import HeadDelta
from pace_tune.methods.sites.tuner import TunerSite
from pace_tune.methods.tuners import fitted, pattern
from pace_tune.methods.vera import Vera, VeraDelta

Values = dict[str, Tensor]


def export_peft(adapted: Adapted, folder: str | Path, *, lane: int = 0) -> None:
    """Write one lane as a peft adapter; the trained head goes with it.

    Load it with ``peft.PeftModel.from_pretrained(model, folder)``, where `model` is the pretrained model with a head of
    the same size.

    Raises:
        UnsupportedError: The method is none of peft's, or is used in a way that peft has no words for.
    """
    from peft import get_peft_model

    sites = {name: site for name, site in adapted.sites.items() if not isinstance(site.delta, HeadDelta)}
    heads = [name for name, site in adapted.sites.items() if isinstance(site.delta, HeadDelta)]
    config = _config(adapted, lane, sites)
    config.target_modules, config.modules_to_save = pattern(sites), heads or None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wrapped: Any = get_peft_model(_plain(adapted), config, autocast_adapter_dtype=False)
    inner = wrapped.base_model.model
    with torch.no_grad():
        for name, site in sites.items():
            values = {key: value.to(site.base.weight.dtype) for key, value in _own(adapted, lane, site).items()}  # type: ignore[arg-type]
            _fill(inner.get_submodule(name), site, values)
        for name in heads:
            saved = inner.get_submodule(name).modules_to_save["default"]
            for key, value in _own(adapted, lane, adapted.sites[name]).items():
                saved.get_parameter(key).copy_(value)
    wrapped.save_pretrained(str(folder))


def _own(adapted: Adapted, lane: int, site: Site) -> Values:
    """Return a site's parameters in the lane's own shapes."""
    values = adapted.lane_values(lane)
    shared = site.delta.shared
    own = {key.rpartition("/")[2]: value for key, value in values.items() if key.rpartition("/")[0] == site.name}
    return own | {key: values[name] for key, name in shared.items()}


def _plain(adapted: Adapted) -> nn.Module:
    """Return the model without sites, its weights shared with the adapted one."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*adapted.model.parameters(), *adapted.model.buffers())}
    memo |= {id(site): copy.deepcopy(site.base, memo) for site in adapted.sites.values()}
    memo |= {id(path): copy.deepcopy(path.original, memo) for path in adapted.drop_paths.values()}
    plain = copy.deepcopy(adapted.model, memo)
    for name, hook in adapted._hooks:
        plain.get_submodule(name)._forward_pre_hooks.pop(hook.id, None)
    return plain


def _config(adapted: Adapted, lane: int, sites: dict[str, Site]) -> Any:
    """Return peft's configuration of a lane, without its targets."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, LoraConfig, PeftType, VeraConfig

    method = adapted.methods[lane]
    if isinstance(method, PeftFamily):
        fields = method.config()
        if method.peft_type == "IA3":
            fields["feedforward_modules"] = pattern(place.name for place in adapted.layout.role("mlp_out") if place.name in sites)
        layers = {name: site.base for name, site in sites.items()}
        return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[method.peft_type]](**{**fitted(method.peft_type, layers), **fields})
    if isinstance(method, Lora):
        groups = max(len(cast(LoraDelta, site.delta).rows) for site in sites.values())
        rank = groups * method.rank
        return LoraConfig(r=rank, lora_alpha=method.scalars()["scale"] * rank, lora_dropout=method.dropout)  # type: ignore[arg-type]
    if isinstance(method, Vera):
        if any("" not in cast(VeraDelta, site.delta).rows for site in sites.values()):
            raise UnsupportedError("peft's VeRA adapts whole layers, and this one adapts some rows of a fused layer.")
        return VeraConfig(r=method.rank, d_initial=method.d_initial, projection_prng_key=method.projection_seed, save_projection=True)
    raise UnsupportedError(f"method {method.name!r} is none of peft's: merge it instead.")


def _fill(layer: Any, site: Site, values: Values) -> None:
    """Put a site's numbers into peft's layer."""
    if isinstance(site, TunerSite):
        for key, value in values.items():
            layer.get_parameter(key).copy_(value)
        for key, buffer in site.frozen_buffers():
            layer.get_buffer(key).copy_(buffer)
    elif isinstance(site.delta, LoraDelta):
        rows = site.delta.rows
        layer.lora_A["default"].weight.copy_(torch.cat([values[f"up{name}"] for name in rows]))
        down = torch.zeros_like(layer.lora_B["default"].weight)
        for (name, part), columns in zip(rows.items(), torch.arange(down.shape[1]).chunk(len(rows)), strict=True):
            down[part, columns[0] : columns[-1] + 1] = values[f"down{name}"]
        layer.lora_B["default"].weight.copy_(down)
    elif isinstance(site.delta, VeraDelta):
        layer.vera_lambda_d["default"].copy_(values["d"])
        layer.vera_lambda_b["default"].copy_(values["b"])
        layer.vera_A["default"][:, : site.delta.in_features] = site.delta.a_rI
        layer.vera_B["default"].copy_(site.delta.b_Or)
