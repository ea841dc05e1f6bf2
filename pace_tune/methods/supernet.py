"""Supernets: methods with a choice to make in every layer, trained all at once by drawing a path in every step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import AfterValidator, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from pace_tune.errors import DataError, UnsupportedError, require
from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Method

Option = str | int
Options = Mapping[str, tuple[Option, ...]]
# Absolute, because a worker's current folder is another one.
SupernetPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class Supernet(Method):
    """A method with options.

    Without a `way` it is the supernet: each step of each lane takes a random path, and outside of training everything is
    on. With one it is an ordinary method, with the parameters of what was chosen and no others.
    """

    way: str | None = Field(
        default=None, pattern="^[0-9a-z]+$", description="A digit for each of the model's choices, the option taken; null: the supernet."
    )
    inherit: SupernetPath | None = Field(
        default=None, description="Folder of a trained supernet's run: the choice keeps its numbers and head, and is scored untrained."
    )
    budget: int | None = Field(default=None, ge=1, description="A choice with more parameters, head excluded, is refused.")

    @abstractmethod
    def choices(self, layout: Layout) -> Options:
        """Return what there is to choose, and the options of each, in a fixed order."""

    @abstractmethod
    def kept(self, whole: Tensor, *, shape: tuple[int, ...]) -> Tensor:
        """Return the part of one of the supernet's parameters that a choice with a parameter of this shape keeps."""

    def cost(self, layout: Layout, choice: str) -> int:
        """Return how many parameters a choice leaves, head excluded."""
        return sum(prod(shape) for shape in self.set_choice(choice)._shapes(layout).values())

    def set_choice(self, choice: str) -> Self:
        """Return this method with a choice made."""
        return self.model_copy(update={"way": choice})

    def chosen(self, layout: Layout, choice: str) -> dict[str, Option]:
        """Return what is chosen, by name.

        Raises:
            ConfigError: There are more or fewer things to choose, or an option has no such number.
        """
        options = self.choices(layout)
        require(len(choice) == len(options), "choice has one digit per choice of the model", choices=len(options), digits=len(choice))
        for (key, known), digit in zip(options.items(), choice, strict=True):
            require(int(digit, 36) < len(known), f"the digit of {key} is below {len(known)}", digit=digit)
        return {key: known[int(digit, 36)] for (key, known), digit in zip(options.items(), choice, strict=True)}

    @property
    def trains(self) -> bool:
        """Whether there is anything to train: a choice that inherits is scored as it is."""
        return self.inherit is None or self.way is None

    def check(self, layout: Layout) -> None:
        """Raise `UnsupportedError` where the family or the budget refuses."""
        super().check(layout)
        if self.way is not None and self.budget is not None:
            cost = self.cost(layout, self.way)
            if cost > self.budget:
                raise UnsupportedError(f"this choice of {self.name!r} has {cost:,} parameters, and the budget is {self.budget:,}.")

    def start(self, layout: Layout, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the supernet's numbers for a choice that inherits them, else `fresh`.

        Raises:
            DataError: The supernet's file cannot be read.
            ConfigError: It is one of another method, model or task.
        """
        if self.inherit is None or self.way is None:
            return fresh
        whole = lane_values(self.inherit)
        require(fresh.keys() <= whole.keys(), "inherit names a supernet of this method, model and task", inherit=str(self.inherit))
        return {key: self._part(whole[key], value) for key, value in fresh.items()}

    def inherited(self, layout: Layout, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what this method's choice keeps of a supernet lane's parameters, the head left out."""
        return {key: self.kept(values[key], shape=shape) for key, shape in self._shapes(layout).items()}

    def _part(self, whole: Tensor, fresh: Tensor) -> Tensor:
        return whole if whole.shape == fresh.shape else self.kept(whole, shape=tuple(fresh.shape))

    def _shapes(self, layout: Layout) -> dict[str, tuple[int, ...]]:
        rng = torch.Generator()
        return {
            f"{placement.place.name}/{key}": tuple(start.shape)
            for placement in self.placements(layout)
            for key, start in placement.delta.init(rng).items()
        }

    def path_numbers(self, layout: Layout) -> int:
        """Return how many choices a random path makes."""
        return len(self.choices(layout)) if self.way is None else 0

    def fixed_path(self, layout: Layout, choice: str, *, lanes: int = 1) -> dict[str, Tensor]:
        """Return the path of one choice for all lanes, to evaluate it inside the supernet."""
        sizes = [len(known) for known in self.choices(layout).values()]
        self.chosen(layout, choice)
        numbers = torch.tensor([(int(digit, 36) + 0.5) / size for digit, size in zip(choice, sizes, strict=True)])
        return self.paths(layout, numbers.expand(lanes, -1))


def encoded(numbers: Iterable[int]) -> str:
    """Return the text of a choice from the numbers of its options."""
    return "".join("0123456789abcdefghijklmnopqrstuvwxyz"[number] for number in numbers)


def lane_values(path: Path) -> dict[str, Tensor]:
    """Return the parameters in a lane's checkpoint.

    Args:
        path: The file, the lane's folder, or the folder of a run.

    Raises:
        DataError: It is not there, or not a lane's.
    """
    places = (path / "lane.safetensors", path / "lanes" / "t0000" / "lane.safetensors")
    file = next((place for place in places if place.is_file()), path)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: not a lane checkpoint ({error}).") from error
    return {key.partition(":")[2]: value for key, value in tensors.items() if key.startswith("values:")}


def one_hot(numbers_K: Tensor, options: int) -> Tensor:
    """Return (K, options) with a one where a number in [0, 1) falls."""
    return F.one_hot(_index(numbers_K, options), options).to(numbers_K.dtype)


def picked(numbers_K: Tensor, options: Sequence[int]) -> Tensor:
    """Return (K,) options that numbers in [0, 1) fall on."""
    return torch.tensor(options, device=numbers_K.device)[_index(numbers_K, len(options))]


def _index(numbers_K: Tensor, options: int) -> Tensor:
    return (numbers_K * options).long().clamp(max=options - 1)  # a product can round up to `options`
