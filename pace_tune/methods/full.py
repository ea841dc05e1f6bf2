"""Full fine-tuning, as deltas of every parameter over the frozen pretrained values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.method import LinearDelta, Method, Placement, Tensors
from pace_tune.methods.sites.module import EmbedDelta, LookupSite, ModuleDelta
from pace_tune.registry import methods


class DenseDelta(LinearDelta):
    """dW and db without structure."""

    dense = True

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return zeros."""
        start = {"weight": torch.zeros(self.out_features, self.in_features)}
        return start if self.bias is None else {**start, "bias": torch.zeros(self.out_features)}

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return the parameters themselves."""
        return parameters["weight"], parameters.get("bias")

    def weights_lanes(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return the parameters themselves."""
        return self.weights(parameters)


@methods.register("full")
class Full(Method):
    """Train every parameter. Noise multiplies the deltas of the linear layers, dW x + db."""

    paper: ClassVar[str] = "full fine-tuning"

    @property
    def needs_whole_backbone(self) -> str:
        """What trains is held whole by each process, and here that is as large as the backbone."""
        return "it trains as many numbers as the backbone has, and what trains is held whole by each process"

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return a delta for each module that holds parameters of its own, the head excluded."""
        embedded = {} if layout.table is None else dict(layout.table.embedded)
        holders = {place.name: place for place in layout.holders}
        for place in layout.holders:
            if any(_holder(name) == place.name for name in embedded.values()):
                continue
            delta = DenseDelta(place.module) if isinstance(place.module, nn.Linear) else ModuleDelta(place.module)
            delta.shared = _tied(layout, place)
            yield Placement(place, delta, LookupSite if isinstance(place.module, nn.Embedding) else None)
        names = {key: name for key, name in embedded.items() if _parameter(holders, name) is not None}
        if layout.embed is not None and names:
            parameters = {key: holders[_holder(name)].module.get_parameter(name.rpartition(".")[2]) for key, name in names.items()}
            yield Placement(layout.embed, EmbedDelta(parameters, names=names))


def _tied(layout: Layout, place: Place) -> dict[str, str]:
    """Return the parameters that other modules hold too (word embedding and output layer) -> one name for all of them."""
    shared = {}
    for key, parameter in place.module.named_parameters(recurse=False):
        owners = [other.name for other in layout.holders if getattr(other.module, key, None) is parameter]
        if len(owners) > 1:
            shared[key] = f"shared/{owners[0]}.{key}"
    return shared


def _holder(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _parameter(holders: Mapping[str, Place], name: str) -> nn.Parameter | None:
    holder = holders.get(_holder(name))
    return None if holder is None else getattr(holder.module, name.rpartition(".")[2], None)
