"""YAML in and out: safe, with numbers read as people write them, and no key lost in silence."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pace_tune.errors import ConfigError


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml ships no types
    """The safe loader, except that 1e-3 is a number and a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise ConfigError(f"the key {key!r} is written twice in the mapping that starts on line {line}.")
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


# YAML 1.1 asks for a dot in a float, so that 1e-3 would be a string. YAML 1.2 and everyone's habit read a number.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789"))


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds.

    Raises:
        ConfigError: It is no YAML, or writes a key twice.

    Example:
        >>> parse_yaml("lr: 1e-3")
        {'lr': 0.001}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (_Loader is a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"this is no valid YAML: {problem}{where}.") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        ConfigError: The file is missing, unreadable, no YAML or no mapping; the line starts with the file.
    """
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except ConfigError as error:
        raise ConfigError(str(error), path=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read this file: {reason}.", path=str(path)) from None
    if not isinstance(value, dict):
        raise ConfigError(f"a mapping is needed, but this file holds {_kind(value)}.", path=str(path))
    return value


def to_yaml(mapping: dict[str, Any]) -> str:
    """Return a mapping of plain values as YAML: sections in block form, their values on one line each."""
    return str(yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120))


def to_line(mapping: dict[str, Any]) -> str:
    """Return a mapping of plain values as one line of YAML, for messages."""
    return str(yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=math.inf)).strip()


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Block mappings always at the outer levels, and no anchors: `&id001` reads like a secret."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
