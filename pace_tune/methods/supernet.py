"""Supernets: methods with a choice to make in every layer, trained all at once by drawing a path in every step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pace_tune.errors import require
from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Method

Option = str | int
Options = Mapping[str, tuple[Option, ...]]


class Supernet(Method):
    """A method with options.

    Without a `choice` it is the supernet: each step of each lane takes a random path, and outside of training everything is
    on. With one it is an ordinary method, with the parameters of what was chosen and no others.
    """

    choice: tuple[int, ...] | None = Field(default=None, description="Number of the option taken for each of `choices`; null: supernet.")

    @abstractmethod
    def choices(self, layout: Layout) -> Options:
        """Return what there is to choose, and the options of each, in a fixed order."""

    @abstractmethod
    def cost(self, layout: Layout, choice: Sequence[int]) -> int:
        """Return how many parameters a choice leaves, head excluded."""

    @abstractmethod
    def inherit(self, layout: Layout, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the part of a supernet lane's parameters that this method's choice keeps."""

    def set_choice(self, choice: Sequence[int]) -> Self:
        """Return this method with a choice made."""
        return self.model_copy(update={"choice": tuple(choice)})

    def chosen(self, layout: Layout, choice: Sequence[int]) -> dict[str, Option]:
        """Return what is chosen, by name.

        Raises:
            ConfigError: There are more or fewer things to choose, or an option has no such number.
        """
        options = self.choices(layout)
        require(len(choice) == len(options), "choice has one number per choice of the model", choices=len(options), choice=len(choice))
        for (key, known), number in zip(options.items(), choice, strict=True):
            require(0 <= number < len(known), f"choice of {key} is in [0, {len(known)})", choice=number)
        return {key: known[number] for (key, known), number in zip(options.items(), choice, strict=True)}

    def path_numbers(self, layout: Layout) -> int:
        """Return how many choices a random path makes."""
        return len(self.choices(layout)) if self.choice is None else 0

    def fixed_path(self, layout: Layout, choice: Sequence[int], *, lanes: int = 1) -> dict[str, Tensor]:
        """Return the path of one choice for all lanes, to evaluate it inside the supernet."""
        sizes = [len(known) for known in self.choices(layout).values()]
        self.chosen(layout, choice)
        numbers = torch.tensor([(number + 0.5) / size for number, size in zip(choice, sizes, strict=True)])
        return self.paths(layout, numbers.expand(lanes, -1))


def one_hot(numbers_K: Tensor, options: int) -> Tensor:
    """Return (K, options) with a one where a number in [0, 1) falls."""
    return F.one_hot(_index(numbers_K, options), options).to(numbers_K.dtype)


def picked(numbers_K: Tensor, options: Sequence[int]) -> Tensor:
    """Return (K,) options that numbers in [0, 1) fall on."""
    return torch.tensor(options, device=numbers_K.device)[_index(numbers_K, len(options))]


def _index(numbers_K: Tensor, options: int) -> Tensor:
    return (numbers_K * options).long().clamp(max=options - 1)  # a product can round up to `options`
