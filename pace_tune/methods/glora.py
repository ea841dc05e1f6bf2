"""GLoRA: W0 + W0 * A + B, b0 + b0 * D + E + W0 C with a form for each in every layer (Chavan et al., 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.method import Changes, LinearDelta, Placement, Tensors, xavier_uniform
from pace_tune.methods.supernet import Options, Supernet, one_hot
from pace_tune.methods.vpt_add import through
from pace_tune.registry import methods

MATRIX = ("lora", "vector", "constant", "none")
FORMS: dict[str, tuple[str, ...]] = {
    "A": MATRIX,
    "B": MATRIX,
    "C": ("lora", "vector", "none"),
    "D": ("vector", "constant", "none"),
    "E": ("vector", "constant", "none"),
}
LARGEST = {letter: forms[0] for letter, forms in FORMS.items()}
COLUMNS = {"A": slice(0, 4), "B": slice(4, 8), "C": slice(8, 11), "D": slice(11, 14), "E": slice(14, 17)}
"""Where a path (K, 17) says which form a letter has."""


class GloraDelta(LinearDelta):
    """dW = W0 * A + B, db = b0 * D + E + W0 C.

    All forms of a letter read the same numbers: a vector is the first column of the low-rank form, a constant its first
    number. A layer without a bias has neither C nor D nor E.

    Args:
        forms: Letter -> its form; None keeps the largest of all, among which a path selects.
    """

    dense = True

    def __init__(self, base: nn.Linear, *, rank: int, forms: Mapping[str, str] | None = None) -> None:
        super().__init__(base)
        self.rank = rank
        self.forms = {letter: form for letter, form in (forms or LARGEST).items() if self.bias is not None or letter in "AB"}

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return zeros, and Xavier-uniform second factors."""
        sizes = {"A": self.out_features, "B": self.out_features, "C": self.in_features, "D": self.out_features, "E": self.out_features}
        widths = {"A": self.in_features, "B": self.in_features, "C": 1}
        start: dict[str, Tensor] = {}
        for letter, form in self.forms.items():
            if form == "lora":
                start[f"{letter}_down"] = torch.zeros(sizes[letter], self.rank)
                start[f"{letter}_up"] = xavier_uniform((self.rank, widths[letter]), generator)
            elif form != "none":
                start[f"{letter}_down"] = torch.zeros(sizes[letter] if form == "vector" else 1, 1)
        return start

    def weights(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return (W0 * A + B, b0 * D + E + W0 C), None where no letter is left. Parameters may carry a leading lane axis."""
        lanes = next(iter(parameters.values())).shape[:-2] if parameters else ()
        weight = shift = None
        if self._has("AB"):
            weight = self.weight * self._part(parameters, "A") + self._part(parameters, "B")
            weight = weight.expand(*lanes, self.out_features, self.in_features)
        if self.bias is not None and self._has("CDE"):
            shift = self.bias * self._part(parameters, "D")[..., 0] + self._part(parameters, "E")[..., 0]
            if self._has("C"):
                prompt = self._part(parameters, "C")[..., 0]
                shift = shift + through(prompt.expand(*lanes, self.in_features), self.weight)
            shift = shift.expand(*lanes, self.out_features)
        return weight, shift

    def weights_lanes(self, parameters: Tensors) -> tuple[Tensor | None, Tensor | None]:
        """Return the same for all lanes: every operation broadcasts."""
        return self.weights(parameters)

    def lanes(self, x_KTI: Tensor, parameters: Tensors) -> Tensor:
        """Return dW x + db, one product for all lanes."""
        weight, bias = self.weights_lanes(parameters)
        if weight is None:
            return x_KTI.new_zeros(len(x_KTI), 1, self.out_features) if bias is None else bias[:, None]
        return torch.bmm(x_KTI, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x_KTI, weight.mT)

    def _has(self, letters: str) -> bool:
        return any(self.forms.get(letter, "none") != "none" for letter in letters)

    def _part(self, parameters: Tensors, letter: str) -> Tensor:
        """Return one letter, (..., rows or 1, columns or 1)."""
        if f"{letter}_down" not in parameters:
            return self.weight.new_zeros(1, 1)
        down = parameters[f"{letter}_down"]
        full = down @ parameters[f"{letter}_up"] if f"{letter}_up" in parameters else down
        if "path" not in parameters:
            return full
        on = parameters["path"][..., COLUMNS[letter]][..., None, None, :]
        forms = {"lora": full, "vector": down[..., :1], "constant": down[..., :1, :1]}
        return sum((on[..., i] * forms[form] for i, form in enumerate(FORMS[letter]) if form != "none"), down.new_zeros(1, 1))


@methods.register("glora")
class Glora(Supernet):
    """A rescaling, a matrix, a prompt and two biases in every linear layer, each low-rank, a vector, a constant or absent."""

    paper: ClassVar[str] = "Chavan et al. 2023 (GLoRA)"
    changes: ClassVar[Changes] = "linear"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rank"})

    rank: int = Field(default=8, ge=1, description="Rank of the low-rank forms; 2, 4 and 8 are published.")

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one delta per linear layer of the blocks."""
        chosen = None if self.way is None else self.chosen(layout, self.way)
        for place in layout.linears():
            forms = None if chosen is None else {letter: str(chosen[f"{place.name}.{letter}"]) for letter in _letters(place)}
            if forms is None or set(forms.values()) != {"none"}:
                yield Placement(place, GloraDelta(place.linear, rank=self.rank, forms=forms))

    def choices(self, layout: Layout) -> Options:
        """Return a form for each letter of each layer."""
        return {f"{place.name}.{letter}": FORMS[letter] for place in layout.linears() for letter in _letters(place)}

    def paths(self, layout: Layout, numbers_KN: Tensor) -> dict[str, Tensor]:
        """Return each layer's forms, one-hot."""
        paths, start = {}, 0
        for place in layout.linears():
            parts = []
            for letter in _letters(place):
                parts.append(one_hot(numbers_KN[:, start], len(FORMS[letter])))
                start += 1
            paths[place.name] = torch.cat(parts, dim=1)
        return paths

    def kept(self, whole: Tensor, *, shape: tuple[int, ...]) -> Tensor:
        """Return the first numbers, which the chosen form reads; the winner of the search is not trained again."""
        return whole[: shape[0], : shape[1]].clone()


def _letters(place: Place) -> tuple[str, ...]:
    return tuple(FORMS) if place.linear.bias is not None else ("A", "B")
