"""The search space of a study: flat, with fields that count only under some names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pace_tune.study.domains import ChoiceDomain, Domain
from pace_tune.study.paths import COMPONENTS, nest
from pace_tune.study.run_config import DEFAULT_NAMES, RunConfig, fields_of

Point = Mapping[str, Any]
"""Dotted path -> value, for some or all of the paths that a study searches."""


@dataclass(frozen=True)
class Space:
    """A run with holes.

    Args:
        fixed: Path -> value of every leaf that the study fixes.
        domains: Path -> domain of every leaf that it searches; names before the fields that depend on them.
    """

    fixed: Mapping[str, Any]
    domains: Mapping[str, Domain]

    def as_mapping(self) -> dict[str, Any]:
        """Return the tree that study files write."""
        return nest({**self.fixed, **{path: domain.as_mapping() for path, domain in self.domains.items()}})

    def names(self, section: str) -> tuple[str, ...]:
        """Return the names that a section may take, in the order of the file; ``("",)`` for a section without a name."""
        if section not in COMPONENTS:
            return ("",)
        domain = self.domains.get(f"{section}.name")
        if domain is not None:
            return tuple(map(str, domain.choices)) if isinstance(domain, ChoiceDomain) else ()
        name = self.fixed.get(f"{section}.name", DEFAULT_NAMES.get(section))
        return (name,) if isinstance(name, str) else ()

    def active(self, point: Point) -> tuple[str, ...]:
        """Return the searched paths that count under a point's names; a name that it leaves out is the default one."""
        return tuple(path for path in self.domains if has_field(path, self._name(_section(path), point)))

    def defaults(self, names: Point | None = None) -> dict[str, Any]:
        """Return the point of the classes' defaults under some names.

        Where the default lies outside of the domain, or there is none, it is the domain's middle.
        """
        point = dict(names or {})
        for path in self.active(point):
            point.setdefault(path, self._default(path, self._name(_section(path), point)))
        return point

    def run(self, point: Point) -> RunConfig:
        """Return the run at a point: holes filled with defaults, fields that the chosen classes lack dropped.

        Raises:
            ConfigError: A value breaks its rule.
        """
        names = {path: value for path, value in point.items() if path.endswith(".name")}
        searched = {**self.defaults(names), **{path: point[path] for path in self.active(names) if path in point}}
        fixed = {path: value for path, value in self.fixed.items() if has_field(path, self._name(_section(path), names))}
        return RunConfig.model_validate(nest({**fixed, **searched}))

    def size(self) -> int | None:
        """Return how many points the full grid has, or nothing where a domain cannot be counted."""
        if any(domain.grid() is None for domain in self.domains.values()):
            return None
        return math.prod(
            sum(math.prod(len(self.domains[path].grid() or ()) for path in self._fields(section, name)) for name in self.names(section))
            for section in self._sections()
        )

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield every point of the full grid once, the last path of the file changing fastest.

        Only where `size` is a number.
        """
        parts = [[*self._section_grid(section)] for section in self._sections()]
        for combination in itertools.product(*parts):
            yield {path: value for part in combination for path, value in part.items()}

    def _section_grid(self, section: str) -> Iterator[dict[str, Any]]:
        for name in self.names(section):
            named = {f"{section}.name": name} if f"{section}.name" in self.domains else {}
            paths = self._fields(section, name)
            for values in itertools.product(*(self.domains[path].grid() or () for path in paths)):
                yield {**named, **dict(zip(paths, values, strict=True))}

    def _sections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_section(path) for path in self.domains))

    def _fields(self, section: str, name: str) -> tuple[str, ...]:
        paths = (path for path in self.domains if _section(path) == section and path != f"{section}.name")
        return tuple(path for path in paths if has_field(path, name))

    def _name(self, section: str, point: Point) -> str:
        names, path = self.names(section), f"{section}.name"
        if path in point or not names:
            return str(point.get(path, ""))
        return str(self._default(path, "")) if path in self.domains else names[0]

    def _default(self, path: str, name: str) -> Any:
        section, _, field = path.partition(".")
        if field == "name":
            default = DEFAULT_NAMES.get(section)
        else:
            info = fields_of(section, name).get(field)
            default = info.default if info else None
        domain = self.domains[path]
        return default if domain.contains(default) else domain.middle()


def has_field(path: str, name: str) -> bool:
    """Say whether the class that is called `name` has the field of a path. Sections without names keep all of theirs."""
    section, _, field = path.partition(".")
    return section not in COMPONENTS or field == "name" or not name or field in fields_of(section, name)


def _section(path: str) -> str:
    return path.partition(".")[0]
