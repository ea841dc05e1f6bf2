"""Domains: what may stand in a study in place of a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pace_tune.errors import ConfigError, did_you_mean, require

Plain: TypeAlias = bool | int | float | str | None
"""What a domain may propose: a value that every database and every text format holds."""


@dataclass(frozen=True)
class FloatDomain:
    """All numbers from `low` to `high`; `log` searches their orders of magnitude.

    Example:
        >>> FloatDomain(1e-4, 1e-2, log=True).middle()
        0.001
    """

    low: float
    high: float
    log: bool = False

    def contains(self, value: Any) -> bool:
        """Say whether a value lies inside, ends included."""
        return _is_number(value) and self.low <= value <= self.high

    def middle(self) -> float:
        """Return the centre, on the scale that is searched."""
        centre = math.exp((math.log(self.low) + math.log(self.high)) / 2) if self.log else self.low / 2 + self.high / 2
        # Rounding keeps 1e-3 from printing as 0.0010000000000000002; the ends bound what it may do.
        return min(max(float(f"{centre:.12g}"), self.low), self.high)

    def probes(self) -> tuple[float, ...]:
        """Return the ends and one number between, to try on the class that will take them."""
        # Not the centre: a fraction that is never whole shows that an integer field was given a float domain.
        return (self.low, self.high, self.low + (self.high - self.low) * 0.3819660112501051)

    def grid(self) -> Sequence[float] | None:
        """Return every value, or nothing where they cannot be counted."""
        return (self.low,) if self.low == self.high else None

    def as_mapping(self) -> dict[str, Any]:
        """Return the form that study files write."""
        return {"float": [self.low, self.high], **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class IntDomain:
    """All whole numbers from `low` to `high`, every `step`-th of them, or searched by orders of magnitude."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def contains(self, value: Any) -> bool:
        """Say whether a whole number lies inside and on the steps."""
        return _is_number(value) and value == int(value) and self.low <= value <= self.high and (int(value) - self.low) % self.step == 0

    def middle(self) -> int:
        """Return the value nearest to the centre, on the scale that is searched; the lower of two."""
        centre = math.exp((math.log(self.low) + math.log(self.high)) / 2) if self.log else (self.low + self.high) / 2
        return self.low + self.step * min(math.ceil((centre - self.low) / self.step - 0.5), (self.high - self.low) // self.step)

    def probes(self) -> tuple[int, ...]:
        """Return the ends, to try on the class that will take them."""
        return (self.low, self.low + self.step * ((self.high - self.low) // self.step))

    def grid(self) -> Sequence[int]:
        """Return every value."""
        return range(self.low, self.high + 1, self.step)

    def as_mapping(self) -> dict[str, Any]:
        """Return the form that study files write."""
        return {"int": [self.low, self.high], **({"step": self.step} if self.step != 1 else {}), **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class ChoiceDomain:
    """A list of values in no order that the search could use."""

    choices: tuple[Plain, ...]

    def contains(self, value: Any) -> bool:
        """Say whether a value is one of the list. True is not 1 here."""
        return any(_same(value, choice) for choice in self.choices)

    def middle(self) -> Plain:
        """Return the middle one of numbers, the first of anything else."""
        return sorted(self.choices)[(len(self.choices) - 1) // 2] if all(map(_is_number, self.choices)) else self.choices[0]  # type: ignore[type-var]

    def probes(self) -> tuple[Plain, ...]:
        """Return every choice, to try on the class that will take it."""
        return self.choices

    def grid(self) -> Sequence[Plain]:
        """Return every value."""
        return self.choices

    def as_mapping(self) -> dict[str, Any]:
        """Return the form that study files write."""
        return {"choice": list(self.choices)}


@dataclass(frozen=True)
class DigitsDomain:
    """A text of digits, each the number of an option: one way through a supernet.

    Digits above 9 are letters.

    Args:
        options: How many options there are at each place.
        times: How often these places come.

    Example:
        >>> DigitsDomain((3, 2), times=2).contains("2101")
        True
    """

    options: tuple[int, ...]
    times: int = 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many options each digit has."""
        return self.options * self.times

    def contains(self, value: Any) -> bool:
        """Say whether a value has all digits, each of an option that there is."""
        if not isinstance(value, str) or len(value) != len(self.sizes):
            return False
        return all(digit in DIGITS[:size] for digit, size in zip(value, self.sizes, strict=True))

    def middle(self) -> str:
        """Return the first option everywhere."""
        return "0" * len(self.sizes)

    def probes(self) -> tuple[str, ...]:
        """Return the first and the last option everywhere, to try on the class that will take them."""
        return (self.middle(), "".join(DIGITS[size - 1] for size in self.sizes))

    def grid(self) -> None:
        """Return nothing: there are too many."""
        return

    def as_mapping(self) -> dict[str, Any]:
        """Return the form that study files write."""
        return {"digits": list(self.options), **({"times": self.times} if self.times != 1 else {})}


Domain: TypeAlias = FloatDomain | IntDomain | ChoiceDomain | DigitsDomain

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
OPTIONS = {"float": ("log",), "int": ("step", "log"), "choice": (), "digits": ("times",)}
"""What may stand beside the kind of a domain."""


def is_domain(value: Any) -> bool:
    """Say whether a value of a study file is meant as a domain."""
    return isinstance(value, Mapping) and any(kind in value for kind in OPTIONS)


def parse_domain(mapping: Mapping[str, Any], *, path: str) -> Domain:
    """Return the domain that a mapping of a study file describes.

    Raises:
        ConfigError: An end is no number, low > high, a step or a scale does not fit, or a key is unknown.

    Example:
        >>> parse_domain({"int": [2, 16], "step": 2}, path="method.rank").middle()
        8
    """
    try:
        return _parse(mapping)
    except ConfigError as error:
        raise ConfigError(str(error), path=path) from None


def to_number(value: Any) -> float | int | None:
    """Return a value as a number where it is one or reads as one (`"1e-3"`), else nothing."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    # A whole number beyond a float's range cannot be searched, and overflows where its logarithm is taken.
    return value if _is_number(value) and abs(value) < 1e300 and math.isfinite(value) else None


def _parse(mapping: Mapping[str, Any]) -> Domain:
    kinds = [kind for kind in OPTIONS if kind in mapping]
    if len(kinds) != 1:
        raise ConfigError(f"a domain is of one kind, but got {' and '.join(kinds)}.")
    kind = kinds[0]
    for key in mapping:
        if key not in {kind, *OPTIONS[kind]}:
            raise ConfigError(f"unknown key {key!r} of a domain of kind {kind!r}.{did_you_mean(str(key), OPTIONS[kind])}")
    if kind == "choice":
        return ChoiceDomain(_choices(mapping["choice"]))
    if kind == "digits":
        return _digits(mapping["digits"], times=mapping.get("times", 1))
    return _range(mapping, kind=kind)


def _range(mapping: Mapping[str, Any], *, kind: str) -> FloatDomain | IntDomain:
    ends = mapping[kind]
    if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
        raise ConfigError(f"a domain has two ends, {kind}: [low, high], but got {ends!r}.")
    low, high = (_end(end, kind=kind) for end in ends)
    log, step = mapping.get("log", False), mapping.get("step", 1)
    require(isinstance(log, bool), "log is true or false", log=log)
    require(low <= high, "low <= high", low=low, high=high)
    require(not log or low > 0, "low > 0 on a log scale", low=low)
    if kind == "float":
        return FloatDomain(float(low), float(high), log)
    require(isinstance(step, int) and not isinstance(step, bool) and step >= 1, "step is a whole number >= 1", step=step)
    require(not log or step == 1, "step = 1 on a log scale", step=step)
    return IntDomain(int(low), int(high), step, log)


def _digits(options: Any, *, times: Any) -> DigitsDomain:
    listed = isinstance(options, Sequence) and not isinstance(options, str) and len(options) > 0
    if not listed or not all(_is_count(size) and size <= len(DIGITS) for size in options):
        raise ConfigError(f"digits are a list of numbers of options, 1 to {len(DIGITS)} each, but got {options!r}.")
    require(_is_count(times), "times is a whole number >= 1", times=times)
    return DigitsDomain(tuple(options), times)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _end(value: Any, *, kind: str) -> float | int:
    number = to_number(value)
    # 2**53: beyond it a float does not hold every whole number, and databases store floats.
    if number is None or (kind == "int" and (number != int(number) or abs(number) > 2**53)):
        raise ConfigError(f"an end is a {'whole ' if kind == 'int' else 'finite '}number, but got {value!r}.")
    return number


def _choices(values: Any) -> tuple[Plain, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ConfigError(f"choices are a list of at least one value, but got {values!r}.")
    for index, value in enumerate(values):
        if not isinstance(value, Plain) or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigError(f"a choice is a plain value, but got {value!r}.")
        if any(_same(value, earlier) for earlier in values[:index]):
            raise ConfigError(f"choices are different from each other, but {value!r} comes twice.")
    return tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(value: Any, choice: Plain) -> bool:
    return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)
