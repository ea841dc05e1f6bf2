"""`protocol: paper` in a study or a run: the published settings of its task, under what the file itself says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pace_tune.errors import ConfigError, UnknownNameError, did_you_mean
from pace_tune.registry import tasks
from pace_tune.study.paths import COMPONENTS, flatten, nest

KEY = "protocol"
PROTOCOLS = ("paper",)


def with_protocol(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's mapping with its protocol filled in and the key gone.

    What the file says stands. Where it names another backbone or method than the published one, none of that section's
    published fields are taken over: they belong to the other class.

    Raises:
        ConfigError: There is no such protocol, or nothing is published for the task.
    """
    if tree.get(KEY) is None:
        return {key: value for key, value in tree.items() if key != KEY}
    given = {key: value for key, value in tree.items() if key != KEY and value is not None}
    if tree[KEY] not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {tree[KEY]!r}.{did_you_mean(str(tree[KEY]), PROTOCOLS)}", path=KEY)
    flat = flatten(given)
    task = flat.get("task.name")
    try:
        published = tasks.get(str(task)).published()
    except UnknownNameError as error:
        raise ConfigError(str(error), path="task.name") from None
    if not published:
        raise ConfigError(f"nothing is published for task {task!r}; leave the key out.", path=KEY)
    others = {part for part in COMPONENTS if flat.get(f"{part}.name", name := published.get(f"{part}.name")) != name}
    kept = {path: value for path, value in published.items() if path.partition(".")[0] not in others}
    return nest({**kept, **flat})


def protocol_notes(task: str) -> tuple[str, ...]:
    """Return what the published protocol of a task leaves open, and where ours departs from it on purpose."""
    notes: tuple[str, ...] = tasks.get(task).published_notes()
    return notes
