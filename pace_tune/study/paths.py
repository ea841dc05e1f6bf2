"""Dotted paths: the one language of study files, points, messages and ``--set``.

A run is two levels deep: ``section.field``, or a bare leaf such as ``seed``. What lies below a field is its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pace_tune.errors import ConfigError
from pace_tune.study.domains import is_domain
from pace_tune.study.yaml_text import parse_yaml

COMPONENTS = ("task", "backbone", "method", "objective")
"""The sections whose fields are those of a registered class."""
SHORT = {**dict.fromkeys(COMPONENTS, "name"), "init_from": "path"}
"""Sections that may be written as one word -> the field that it is."""


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"section.field": value}`` of a run or of a run with holes. What is flat already stays as it is.

    Example:
        >>> flatten({"method": "linear", "optim": {"lr": 0.1}, "seed": 0})
        {'method.name': 'linear', 'optim.lr': 0.1, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for section, value in tree.items():
        if isinstance(value, Mapping) and not is_domain(value) and "." not in section:
            flat.update({f"{section}.{field}": leaf for field, leaf in value.items()})
        else:
            flat[f"{section}.{SHORT[section]}" if section in SHORT else section] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree that `flatten` made flat."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        section, dot, field = path.partition(".")
        if dot:
            tree.setdefault(section, {})[field] = value
        else:
            tree[section] = value
    return tree


def assign(tree: Mapping[str, Any], *, path: str, value: Any) -> dict[str, Any]:
    """Return a copy of a tree with one value set; sections that are missing are made.

    Raises:
        ConfigError: The path leads through a value that is no section.
    """
    key, _, rest = path.partition(".")
    changed = dict(tree)
    if not rest:
        changed[key] = value
        return changed
    inner = changed.get(key)
    if isinstance(inner, str) and key in SHORT:
        inner = {SHORT[key]: inner}
    if inner is not None and (not isinstance(inner, Mapping) or is_domain(inner)):
        raise ConfigError(f"cannot set a part of {inner!r}.", path=path)
    changed[key] = assign(inner or {}, path=rest, value=value)
    return changed


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Return path -> value of ``path=value`` texts; values are read as YAML.

    Raises:
        ConfigError: A text has no ``=``, or no path before it.

    Example:
        >>> parse_settings(["optim.lr=1e-3", "objective.name=plain"])
        {'optim.lr': 0.001, 'objective.name': 'plain'}
    """
    values: dict[str, Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not all(path.strip().split(".")):
            raise ConfigError(f"a setting is written path=value, e.g. optim.lr=1e-3, but got {setting!r}.")
        values[path.strip()] = parse_yaml(text)
    return values
