"""What does not go together, known before weights or data are loaded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pace_tune.errors import ConfigError
from pace_tune.study.run_config import RunConfig
from pace_tune.study.space import Space

TAKES = {"image": "images", "text": "texts", "causal": "prompts to continue"}
SPREAD = "a backbone is spread block by block"
SAYS = {"class": "classes", "value": "values", "token": "tokens"}


def misfits(run: RunConfig) -> Iterator[ConfigError]:
    """Yield why a worker would refuse a run, as far as its names and fields say it.

    Only the parts are looked at: a model that lies in a folder is known by its `config.json`, one that is elsewhere not at all.
    """
    task, backbone, method, objective = run.task, run.backbone, run.method, run.objective
    if task.modality not in backbone.modalities:
        takes = " or ".join(TAKES.get(modality, modality) for modality in backbone.modalities)
        needs = TAKES.get(task.modality, task.modality)
        yield ConfigError(
            f"task {task.name!r} needs a backbone that takes {needs}, but {backbone.name!r} takes {takes}.", path="backbone.name"
        )
    elif task.target == "token" and method.changes == "head":
        yield ConfigError(f"method {method.name!r} trains a head, and task {task.name!r} is for a model without one.", path="method.name")
    family = backbone.family_here()
    if family in method.refused:
        rule = f"method {method.name!r} is not defined on models of family {family!r}, as {backbone.name!r} is"
        yield ConfigError(f"{rule}: {method.refused[family]}.", path="method.name")
    if task.target in objective.refused:
        rule = f"objective {objective.name!r} is not defined on tasks whose targets are {SAYS[task.target]}, as {task.name!r} is"
        yield ConfigError(f"{rule}: {objective.refused[task.target]}.", path="objective.name")
    if method.changes in objective.refused:
        rule = f"objective {objective.name!r} does not go with method {method.name!r}"
        yield ConfigError(f"{rule}: {objective.refused[method.changes]}.", path="objective.name")


def sharding_misfits(space: Space) -> list[ConfigError]:
    """Return why trials of a space would be refused where the backbone is spread over processes."""
    found = []
    for name in space.names("method"):
        run = space.run({"method.name": name} if "method.name" in space.domains else {})
        if why_not := run.method.needs_whole_backbone:
            found.append(ConfigError(f"{SPREAD}, and not with method {name!r}: {why_not}.", path="resources.shard_backbone"))
    backbone = space.run({}).backbone
    if backbone.family_here() == "linear":
        rule = f"{SPREAD}, and no table says which blocks {backbone.name!r} has"
        found.append(ConfigError(f"{rule}.", path="resources.shard_backbone"))
    return found


def space_misfits(space: Space) -> list[ConfigError]:
    """Return why trials of a space would be refused: of each method with each objective, every reason once."""
    found: dict[str, ConfigError] = {}
    for names in itertools.product(space.names("method"), space.names("objective")):
        named = dict(zip(("method.name", "objective.name"), names, strict=True))
        run = space.run({path: name for path, name in named.items() if path in space.domains})
        found |= {str(mistake): mistake for mistake in misfits(run)}
    return list(found.values())
