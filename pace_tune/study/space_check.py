"""What can be wrong with the run part of a study: paths, names, fields, values and the ends of domains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pace_tune.errors import ConfigError, MistakesError, PaceTuneError, UnknownNameError, did_you_mean
from pace_tune.study.domains import ChoiceDomain, Domain, is_domain, parse_domain
from pace_tune.study.paths import COMPONENTS, flatten
from pace_tune.study.run_config import REGISTRIES, fields_of
from pace_tune.study.space import Space, has_field
from pace_tune.study.yaml_text import to_line

SHARED = ("task", "backbone", "data", "init_from")
"""Sections that all trials of a sweep share, and that a study therefore fixes."""


def read_space(tree: Mapping[str, Any]) -> Space:
    """Return the space of a run with holes, checked, its paths absolute: a worker's current folder is another one.

    Raises:
        MistakesError: Something is wrong; every mistake is a line.
    """
    flat = flatten(tree)
    domains: dict[str, Domain] = {}
    mistakes: list[PaceTuneError] = []
    for path in sorted(filter(lambda path: is_domain(flat[path]), flat), key=lambda path: not path.endswith(".name")):
        try:
            domains[path] = parse_domain(flat[path], path=path)
        except ConfigError as error:
            mistakes.append(error)
    space = Space({path: value for path, value in flat.items() if not is_domain(value)}, domains)
    for check in (_unsearchable, _wrong_names, _wrong_fields):
        mistakes.extend(check(space))
    # A value can only be tried where its path leads somewhere.
    if mistakes := mistakes or [*_wrong_values(space)]:
        raise MistakesError({str(mistake): mistake for mistake in mistakes}.values())
    return replace(space, fixed={**space.fixed, **_absolute_paths(space)})


def _absolute_paths(space: Space) -> dict[str, Any]:
    """Return the fixed values that are paths, as the run reads them: relative to the folder of the command."""
    run = space.run({})
    flat, found = run.flat(), {}
    for path in space.fixed:
        section, _, field = path.partition(".")
        value = getattr(getattr(run, section), field, None) if section in SHARED else None
        if isinstance(value, Path) or (isinstance(value, Mapping) and any(isinstance(part, Path) for part in value.values())):
            found[path] = flat[path]
    return found


def _unsearchable(space: Space) -> Iterator[ConfigError]:
    for path, domain in space.domains.items():
        if path.partition(".")[0] in SHARED:
            yield ConfigError("all trials of a sweep share it, so that no domain can stand here. Write a study for each value.", path=path)
        elif path.endswith(".name") and not isinstance(domain, ChoiceDomain):
            yield ConfigError("names are searched with {choice: [...]}.", path=path)


def _wrong_names(space: Space) -> Iterator[ConfigError]:
    for section in COMPONENTS:
        for name in space.names(section):
            try:
                REGISTRIES[section].get(name)
            except UnknownNameError as error:
                yield ConfigError(str(error), path=f"{section}.name")


def _wrong_fields(space: Space) -> Iterator[ConfigError]:
    for path in [*space.fixed, *space.domains]:
        section, _, field = path.partition(".")
        names = [name for name in space.names(section) if section in COMPONENTS and name in REGISTRIES[section].names()]
        if not names or any(has_field(path, name) for name in names):
            continue
        fields = {field for name in names for field in fields_of(section, name)}
        owner = " or ".join(map(repr, names))
        yield ConfigError(f"unknown field of {owner}.{did_you_mean(field, fields) or ' It has no fields.'}", path=path)


def _wrong_values(space: Space) -> Iterator[PaceTuneError]:
    for point in _trial_points(space):
        try:
            space.run(point)
        except MistakesError as error:
            yield from (_with_hint(mistake, space) for mistake in error.mistakes)


def _trial_points(space: Space) -> Iterator[dict[str, Any]]:
    """Yield points that touch every class of every section once, and every domain at its ends."""
    yield {}
    for section in {path.partition(".")[0]: None for path in [*space.fixed, *space.domains]}:
        for name in space.names(section):
            names = {f"{section}.name": name} if f"{section}.name" in space.domains else {}
            yield names
            for path in space.active(names):
                if path.partition(".")[0] == section and path != f"{section}.name":
                    yield from ({**names, path: value} for value in space.domains[path].probes())


def _with_hint(mistake: PaceTuneError, space: Space) -> PaceTuneError:
    path = getattr(mistake, "path", "")
    if "unknown field" in str(mistake):
        return mistake
    if path in space.domains:
        hint = f"The domain is {to_line(space.domains[path].as_mapping())}."
    elif isinstance(space.fixed.get(path), Mapping):
        hint = "A domain is {float: [low, high]}, {int: [low, high]} or {choice: [...]}."
    else:
        return mistake
    return ConfigError(f"{str(mistake).removeprefix(f'{path}: ')} {hint}", path=path)
