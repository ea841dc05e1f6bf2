"""What a run starts from: found, and compared with the run, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pace_tune.errors import ConfigError
from pace_tune.study.paths import flatten
from pace_tune.study.run_config import RunConfig

WHERE = "init_from.path"
CHECKPOINT, ADAPTER, MERGED = "lane.safetensors", "adapter_config.json", "preprocess.json"
MAY_DIFFER = ("dropout",)
"""Fields of a method that trained adapters do not depend on. All others change what their numbers mean."""
LONGEST_HEADER = 1 << 26


@dataclass(frozen=True)
class Source:
    """Trained parameters on disk.

    Args:
        path: A lane's checkpoint, or the folder of a peft adapter.
        run: The configuration that they were trained with; empty for an adapter.
        epoch: Epochs that they were trained for.
        adapter: peft's configuration; empty for a checkpoint.
    """

    path: Path
    run: Mapping[str, Any]
    epoch: int = 0
    adapter: Mapping[str, Any] = field(default_factory=dict)


def find_source(path: Path) -> Source:
    """Return what a path names: a trained run's folder, a lane's folder or checkpoint, or the folder of a peft adapter.

    Raises:
        ConfigError: There is nothing to start from, or it is still being trained.
    """
    if path.is_file():
        return _checkpoint(path)
    if (path / ADAPTER).is_file():
        return Source(path, {}, adapter=_json(path / ADAPTER))
    if (path / MERGED).is_file():
        raise ConfigError(f"{path} is a merged model, whose adapters are folded in; name its run, or export it with --peft.", path=WHERE)
    if (path / "study.yaml").is_file():
        raise ConfigError(f"{path} is a sweep; name the folder of one of its trials, such as {path / 'lanes' / 't0000'}.", path=WHERE)
    lane = path / "lanes" / "t0000" if (path / "RUN.yaml").is_file() else path
    if not (lane / CHECKPOINT).is_file():
        raise ConfigError(f"a trained run, a {CHECKPOINT} or a peft adapter must be there, but got {str(path)!r}.", path=WHERE)
    found = _checkpoint(lane / CHECKPOINT)
    epochs = found.run["optim"]["epochs"]
    if found.epoch < epochs:
        # A file that is named itself is taken as it is; what a folder holds would change under the runs that start from it.
        raise ConfigError(f"{path} stands at epoch {found.epoch} of {epochs}; a run starts from a finished one.", path=WHERE)
    return found


def start_mistakes(run: RunConfig) -> list[ConfigError]:
    """Return why a run cannot start from what it names."""
    if run.init_from.path is None:
        return []
    try:
        source = find_source(run.init_from.path)
    except ConfigError as error:
        return [error]
    return [*(_other_adapter(run, source) if source.adapter else _other_run(run, source))]


def _other_run(run: RunConfig, source: Source) -> Iterator[ConfigError]:
    theirs, ours = flatten(source.run), run.flat()
    named = [path for path in ("backbone.name", "method.name") if theirs[path] != ours[path]]
    fields = [path for path in theirs if path.startswith("method.") and path.partition(".")[2] not in MAY_DIFFER]
    # A field that an older version did not write had what is the default now.
    differ = named or [path for path in fields if path in ours and theirs[path] != ours[path]]
    for path in differ:
        yield ConfigError(f"the run that it starts from has {theirs[path]!r} ({source.path}), but got {ours[path]!r}.", path=path)


def _other_adapter(run: RunConfig, source: Source) -> Iterator[ConfigError]:
    theirs, ours = source.adapter.get("peft_type"), getattr(run.method, "peft_type", None)
    if ours is None:
        yield ConfigError(f"method {run.method.name!r} is none of peft's, and {source.path} holds an adapter of peft.", path="method.name")
    elif theirs != ours:
        yield ConfigError(f"the adapter in {source.path} is peft's {theirs}, but {run.method.name!r} is {ours}.", path="method.name")


def _checkpoint(path: Path) -> Source:
    """Read the header of a lane's checkpoint: JSON behind its length."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(min(length, LONGEST_HEADER)))["__metadata__"]
        return Source(path, json.loads(metadata["run"]), int(metadata["epoch"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no checkpoint of a lane.", path=WHERE) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", path=WHERE) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is no configuration of an adapter.", path=WHERE)
    return found
