"""Names to classes: one new file under a decorator adds a task, backbone, method or objective.

A registry reads the *text* of its package's files to learn which names exist, so that listing them imports nothing;
a file is imported when one of its names is asked for.
"""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pace_tune.component import Component
from pace_tune.errors import ConfigError, UnknownNameError, did_you_mean

T = TypeVar("T", bound=Component)


class Registry(Generic[T]):
    """All components of one kind.

    Args:
        kind: What a user calls them: ``task``, ``backbone``, ``method``, ``objective``.
        package: Dotted package whose files register them.

    Example:
        >>> from pace_tune.registry import methods
        >>> "lora_add" in methods.names()
        True
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._classes: dict[str, type[T]] = {}

    def register(self, *names: str) -> Callable[[type[T]], type[T]]:
        """Return a class decorator. Several names make a family: each gets a subclass of its own.

        The names must be literal strings: they are read without importing the file.
        """

        def decorate(cls: type[T]) -> type[T]:
            for name in names:
                body = {"__module__": cls.__module__, "__doc__": cls.__doc__}
                member = cls if len(names) == 1 else cast("type[T]", type(cls.__name__, (cls,), body))
                member.name = name
                self._classes[name] = member
            return cls

        return decorate

    @cached_property
    def _files(self) -> dict[str, tuple[str, str, str]]:
        """Name -> (module, first line of its docstring, what that says of the name), read from the source text."""
        folder = Path(cast(str, importlib.import_module(self.package).__file__)).parent
        found: dict[str, tuple[str, str, str]] = {}
        for path in sorted(folder.rglob("*.py")):
            module = ".".join([self.package, *path.relative_to(folder).with_suffix("").parts])
            for name, summary, line in _registered_names(path.read_text(encoding="utf-8")):
                found[name] = (module, summary, line)
        return found

    def names(self) -> tuple[str, ...]:
        """Return every registered name, sorted, without importing what they name."""
        load_plugins()
        return tuple(sorted({*self._files, *self._classes}))

    def summary(self, name: str) -> str:
        """Return the first line of the docstring of the class registered as `name`."""
        if name in self._files:
            return self._files[name][1]
        return (self.get(name).__doc__ or "").strip().split("\n")[0]

    def line(self, name: str) -> str:
        """Return what a class says of one of its names, under ``Names`` in its docstring; its summary where it says nothing."""
        said = self._files[name][2] if name in self._files else _own_line(self.get(name).__doc__ or "", name)
        return said or self.summary(name)

    def get(self, name: str) -> type[T]:
        """Return the class registered as `name`.

        Raises:
            UnknownNameError: Nothing is registered under it; near names are given.
        """
        if name not in self._classes and name in self._files:
            importlib.import_module(self._files[name][0])
        if name not in self._classes:
            load_plugins()
        if name not in self._classes:
            raise UnknownNameError(self.kind, name, self.names())
        return self._classes[name]

    def build(self, value: str | Mapping[str, Any] | T) -> T:
        """Make a component from its name, or from ``{"name": ..., field: value}``.

        Raises:
            UnknownNameError: The name is not registered.
            ConfigError: A field is unknown or breaks its rule; the path starts with the kind.
        """
        if isinstance(value, Component):
            return value
        fields = {"name": value} if isinstance(value, str) else dict(value)
        name = fields.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError("a name is needed.", path=f"{self.kind}.name")
        cls = self.get(name)
        try:
            return cls(**fields)
        except ValidationError as error:
            raise explain(error, path=self.kind, known=cls.field_names(), owner=name) from None


def explain(error: ValidationError, *, path: str, known: tuple[str, ...], owner: str) -> ConfigError:
    """Turn pydantic's first complaint into one line: path, rule, value, near names."""
    return describe(error.errors()[0], path=path, known=known, owner=owner)


def describe(complaint: ErrorDetails, *, path: str, known: tuple[str, ...], owner: str) -> ConfigError:
    """Turn one of pydantic's complaints into one line: path, rule, value, near names."""
    where = ".".join([*filter(None, [path]), *(str(part) for part in complaint["loc"])])
    rule = complaint.get("ctx", {}).get("error")
    if isinstance(rule, ConfigError):
        return rule if rule.path else ConfigError(str(rule), path=where)
    if complaint["type"] == "extra_forbidden":
        fields = did_you_mean(str(complaint["loc"][-1]), known) or " It has no fields."
        return ConfigError(f"unknown field of {owner!r}.{fields}", path=where)
    if complaint["type"] == "missing":
        return ConfigError("a value is needed.", path=where)
    message = complaint["msg"].removeprefix("Value error, ")
    return ConfigError(f"{message[0].lower()}{message[1:].rstrip('.')}, but got {complaint['input']!r}.", path=where)


def load_plugins() -> None:
    """Import the modules named by ``PACE_TUNE_PLUGINS`` and by the entry points ``pace_tune.plugins``.

    Never by a study file: a study cannot execute code.
    """
    for module in filter(None, os.environ.get("PACE_TUNE_PLUGINS", "").split(",")):
        importlib.import_module(module)
    for point in _plugin_points():
        point.load()


@cache
def _plugin_points() -> tuple[EntryPoint, ...]:
    # Once a process: it reads the metadata of every installed package.
    return tuple(entry_points(group="pace_tune.plugins"))


def _registered_names(source: str) -> Iterator[tuple[str, str, str]]:
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        text = ast.get_docstring(node) or ""
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "register":
                for argument in decorator.args:
                    name = ast.literal_eval(argument)
                    yield name, text.split("\n")[0], _own_line(text, name)


def _own_line(docstring: str, name: str) -> str:
    """Return the line on one name under ``Names`` in a docstring, empty where there is none."""
    _, _, names = docstring.partition("Names:\n")
    lines = (line.strip().partition(": ") for line in names.partition("\n\n")[0].splitlines())
    return next((said for key, _, said in lines if key == name), "")


tasks: Registry[Any] = Registry("task", "pace_tune.benchmarks")
backbones: Registry[Any] = Registry("backbone", "pace_tune.models")
methods: Registry[Any] = Registry("method", "pace_tune.methods")
objectives: Registry[Any] = Registry("objective", "pace_tune.pace")
samplers: Registry[Any] = Registry("sampler", "pace_tune.search.samplers")
