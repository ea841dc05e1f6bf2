"""What a run needs and this machine lacks, as far as names tell, and tables that are wrong: nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pace_tune.errors import ConfigError, DataError, MistakesError
from pace_tune.study.run_config import RunConfig


def missing_here(run: RunConfig) -> list[ConfigError]:
    """Return what is not here of a run's data and weights; on a cluster it may be there all the same.

    Example:
        >>> run = RunConfig.model_validate({"task": "digits", "backbone": "vit_nano_cifar10", "method": "linear"})
        >>> missing_here(run)
        []
    """
    gone = [(name, path) for name, path in _paths(run.task) if not path.exists()]
    found = [ConfigError(f"there is no such file or folder: {str(path)!r}.", path=f"task.{name}") for name, path in gone]
    return [*found, *missing_weights(run)]


def refuse_missing(runs: Iterable[RunConfig]) -> None:
    """Refuse runs that this machine lacks something for.

    Raises:
        MistakesError: Data or weights are missing; a line for each, however many runs need it.
    """
    found = {str(mistake): mistake for run in runs for mistake in (*run.data.missing(), *missing_here(run))}
    if found:
        raise MistakesError(found.values())


def refuse_wrong_data(run: RunConfig) -> None:
    """Refuse a run whose data breaks its layout, as far as that is seen within seconds.

    Raises:
        MistakesError: It does; a line for all that is wrong.
        DataError: It cannot be read at all.
    """
    if wrong := run.task.early_problems(root=run.data.root):
        raise MistakesError(map(DataError, wrong))


def missing_weights(run: RunConfig) -> list[ConfigError]:
    """Return why a run's backbone cannot be loaded on this machine, where that is seen at a glance."""
    why = run.backbone.why_no_weights()
    return [ConfigError(why, path="backbone")] if why else []


def _paths(component: Any) -> Iterator[tuple[str, Path]]:
    """Yield the files and folders that a component names, with their field."""
    for name in type(component).model_fields:
        value = getattr(component, name)
        for one in value.values() if isinstance(value, dict) else [value]:
            if isinstance(one, Path):
                yield name, one
