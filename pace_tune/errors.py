"""The errors a user can meet, each one clear line: path, rule, value, near names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PaceTuneError(Exception):
    """Base of everything pace-tune raises on purpose."""


class ConfigError(PaceTuneError, ValueError):
    """A study, run or call breaks a stated rule.

    Args:
        message: The rule and the value that broke it.
        path: Where in the configuration, dotted, e.g. ``method.rank``.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)


class MistakesError(ConfigError):
    """Several mistakes found at once; each is a line of the message.

    Attributes:
        mistakes: They, in the order of the file.
    """

    def __init__(self, mistakes: Iterable[PaceTuneError]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))
        self.path = getattr(self.mistakes[0], "path", "")


class DataError(PaceTuneError, ValueError):
    """A data file or folder is missing, damaged or breaks its layout."""


class PaceTuneWarning(UserWarning):
    """What a user should know of a result that is given all the same; the command line shows it as one line."""


class UnknownNameError(PaceTuneError, LookupError):
    """A name that nothing is registered under."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"unknown {kind} {name!r}.{did_you_mean(name, known)}")


class UnsupportedError(PaceTuneError, ValueError):
    """The pieces exist but do not go together, e.g. a method on a model it is not defined for."""


def require(holds: bool, rule: str, **values: object) -> None:
    """Raise `ConfigError` in the house form unless a rule holds.

    Example:
        >>> require(0 <= 1, "sigma >= 0", sigma=0)
    """
    if not holds:
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ConfigError(f"`{rule}` must hold, but got {shown}.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known names, or with all of them where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.55)
    if near:
        return " Did you mean " + " or ".join(repr(n) for n in near) + "?"
    return f" Known: {', '.join(known)}." if known else ""
