"""A study: a run with holes, and how to search them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pace_tune.errors import ConfigError, MistakesError, PaceTuneError, did_you_mean
from pace_tune.storage import checked_location
from pace_tune.study.combinations import sharding_misfits, space_misfits
from pace_tune.study.domains import DigitsDomain, Domain
from pace_tune.study.paths import assign
from pace_tune.study.protocol import KEY, protocol_notes, with_protocol
from pace_tune.study.run_config import DataConfig, RunConfig, Section
from pace_tune.study.search_config import ResourcesConfig, SearchConfig, TrackingConfig
from pace_tune.study.space import Point, Space
from pace_tune.study.space_check import read_space
from pace_tune.study.start import MAY_DIFFER, start_mistakes
from pace_tune.study.yaml_text import read_mapping, to_line
from pace_tune.wording import data_name

RUN_KEYS = tuple(RunConfig.model_fields)
SEARCH_KEYS = ("name", "search", "resources", "tracking", "output", "storage")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names are folders, database keys and job ids at once."""


@dataclass(frozen=True)
class Study:
    """What a sweep executes.

    Args:
        name: Of the sweep; its folder in `output`.
        holes: The run with holes.
        search: How the holes are searched.
        resources: What the sweep takes.
        tracking: Where MLflow writes.
        output: Absolute folder of sweeps.
        protocol: What fills in what the file leaves open; ``paper`` or None.
        storage: ``s3://bucket/prefix`` or an absolute folder for the lanes, None keeps them in the sweep's folder.

    Example:
        >>> study = Study.load("search_spaces/digits.yaml")
        >>> study.run(study.defaults()).method.name
        'lora_mul_vpt_add'
    """

    name: str
    holes: Space
    search: SearchConfig
    resources: ResourcesConfig
    tracking: TrackingConfig
    output: Path
    storage: str | None = None
    protocol: str | None = None

    @classmethod
    def load(cls, path: str | Path, *, settings: Mapping[str, Any] | None = None) -> Study:
        """Read and check a study file; the sweep is named after the file unless it says otherwise.

        Args:
            path: The YAML file.
            settings: Dotted path -> value, set over what the file says.

        Raises:
            ConfigError: Something is wrong; one line per mistake.
        """
        return cls.parse(_read_tree(Path(path), settings), name=Path(path).stem)

    @classmethod
    def place(cls, path: str | Path, *, settings: Mapping[str, Any] | None = None) -> Path | None:
        """Return the folder of a study file's sweep, for what is asked before the file is checked; None where that is not known."""
        try:
            tree = _read_tree(Path(path), settings)
            return _read_folder(tree.get("output", "pace-runs")) / _read_name(tree.get("name", Path(path).stem))
        except ConfigError:
            return None

    @classmethod
    def parse(cls, tree: Mapping[str, Any], *, name: str = "study") -> Study:
        """Return the study that a mapping describes, checked.

        Args:
            tree: What a study file holds.
            name: Of the sweep, where the mapping gives none.

        Raises:
            ConfigError: Something is wrong; one line per mistake.
        """
        protocol, tree = tree.get(KEY), with_protocol(tree)
        mistakes: list[PaceTuneError] = [*_unknown_keys(tree)]
        parts: dict[str, Any] = {}
        readers: dict[str, Callable[[], Any]] = {
            "name": lambda: _read_name(tree.get("name", name)),
            "output": lambda: _read_folder(tree.get("output", "pace-runs")),
            "storage": lambda: _read_storage(tree.get("storage")),
            "holes": lambda: read_space(_resolved_run(tree)),
            "search": lambda: SearchConfig.model_validate(_part(tree, "search")),
            "resources": lambda: ResourcesConfig.model_validate(_part(tree, "resources")),
            "tracking": lambda: TrackingConfig.model_validate(_part(tree, "tracking")),
        }
        for part, read in readers.items():
            try:
                parts[part] = read()
            except ConfigError as error:
                mistakes.extend(getattr(error, "mistakes", [error]))
        if not mistakes:
            study = cls(**parts, protocol=protocol)
            mistakes.extend(study_mistakes(study))
        if mistakes:
            raise MistakesError(mistakes)
        return study._counted()

    @property
    def space(self) -> dict[str, Domain]:
        """The searched paths and their domains."""
        return dict(self.holes.domains)

    def defaults(self) -> dict[str, Any]:
        """Return the point of the classes' defaults."""
        return self.holes.defaults()

    def active(self, point: Point) -> tuple[str, ...]:
        """Return the searched paths that count under a point's names."""
        return self.holes.active(point)

    def run(self, point: Point) -> RunConfig:
        """Return the run at a point; holes are filled with defaults, inactive fields dropped."""
        return self.holes.run(point)

    def runs_by_task(self) -> list[RunConfig]:
        """Return a run of each task that is searched over, all else at its default."""
        return [self.run({"task.name": name} if "task.name" in self.space else {}) for name in self.holes.names("task")]

    def first_points(self) -> list[dict[str, Any]]:
        """Return the points to try first: the defaults, the same with `plain`, then the warm start, each once.

        Warm-start points may be partial.
        """
        points: list[dict[str, Any]] = []
        if self.search.baseline:
            defaults = self.defaults()
            points.append(defaults)
            if "objective.name" in self.space and "plain" in self.holes.names("objective"):
                plain = {**defaults, "objective.name": "plain"}
                points.append({path: plain[path] for path in self.active(plain)})
        points.extend(self.search.warm_start)
        return [point for index, point in enumerate(points) if point not in points[:index]]

    @property
    def references(self) -> int:
        """How many of the first trials the others are compared with: the defaults, and the same with `plain` where that is another run.

        They are seen to their end.
        """
        if not self.search.baseline:
            return 0
        can_be_plain = "objective.name" not in self.space or "plain" in self.holes.names("objective")
        return 2 if can_be_plain and self._defaults_run.objective.name != "plain" else 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What the published protocol leaves open and where this departs from it, where the study follows it."""
        return protocol_notes(self._defaults_run.task.name) if self.protocol else ()

    @property
    def metric(self) -> str:
        """The metric key that is optimised."""
        return self.search.metric or f"val/{self._defaults_run.task.metric}"

    @property
    def mode(self) -> Literal["max", "min"]:
        """Which way the metric is better."""
        task = self._defaults_run.task
        if self.search.mode is not None:
            return self.search.mode
        if self.metric == f"val/{task.metric}":
            return "max" if task.higher_is_better else "min"
        return "min" if self.metric.endswith("loss") else "max"

    @property
    def max_epochs(self) -> int:
        """The most epochs that a trial can have."""
        return max(run.optim.epochs for run in self._longest_runs)

    @property
    def grace_epochs(self) -> int:
        """Epochs before early stopping judges: past the longest warm-up, and a tenth of the epochs."""
        warmup = max(run.optim.warmup_epochs for run in self._longest_runs)
        return self.search.early_stopping.grace_epochs or max(warmup + 1, math.ceil(self.max_epochs / 10))

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment: scores on different data do not stand in one table."""
        task = self._defaults_run.task
        return self.tracking.experiment or data_name(str(task.name), str(getattr(task, "path", None) or ""))

    @property
    def folder(self) -> Path:
        """Where the sweep lives."""
        return self.output / self.name

    @property
    def lanes(self) -> str:
        """Where its lanes are kept: what `pace_tune.storage.open_storage` takes."""
        return f"{self.storage}/{self.name}/lanes" if self.storage else str(self.folder / "lanes")

    @property
    def tracking_uri(self) -> str:
        """Where MLflow writes."""
        return self.tracking.uri or f"sqlite:///{self.output / 'mlflow.db'}"

    def as_mapping(self) -> dict[str, Any]:
        """Return the mapping of a study file that gives this study again."""
        sections: dict[str, Section] = {"search": self.search, "resources": self.resources, "tracking": self.tracking}
        dumped = {key: section.model_dump(mode="json") for key, section in sections.items()}
        run = self.holes.as_mapping()
        places = {"output": str(self.output), **({"storage": self.storage} if self.storage else {})}
        first = {"name": self.name, **({KEY: self.protocol} if self.protocol else {})}
        return {**first, **{key: run[key] for key in RUN_KEYS if key in run}, **dumped, **places}

    @cached_property
    def _defaults_run(self) -> RunConfig:
        return self.run({})

    @cached_property
    def _longest_runs(self) -> list[RunConfig]:
        paths = [path for path in ("optim.epochs", "optim.warmup_epochs") if path in self.space]
        return [self._defaults_run, *(self.run({path: value}) for path in paths for value in self.space[path].probes())]

    def _counted(self) -> Study:
        """A grid without a number of trials has as many as it has points."""
        if self.search.sampler_name != "grid" or self.search.trials is not None:
            return self
        return replace(self, search=self.search.model_copy(update={"trials": self.holes.size()}))


def study_mistakes(study: Study) -> list[ConfigError]:
    """Return what is wrong between the parts of a study that are right each for itself."""
    found = [*study.run({}).data.missing(), *_wrong_start(study), *space_misfits(study.holes)]
    found.extend(sharding_misfits(study.holes) if study.resources.shard_backbone else ())
    if study.holes.fixed.get("data.train_on", "train") != "train":
        found.append(ConfigError("a study selects on val and must not train on it, but got 'train+val'.", path="data.train_on"))
    if study.search.sampler_name == "grid" and study.holes.size() is None:
        endless = [path for path, domain in study.space.items() if domain.grid() is None]
        found.append(ConfigError(f"a grid needs domains that can be counted; write {endless[0]} as a choice.", path="search.sampler"))
    ways = [path for path, domain in study.space.items() if isinstance(domain, DigitsDomain)]
    if ways and study.search.sampler_name != "evolution":
        found.append(ConfigError(f"ways through a supernet are searched with `evolution`, and {ways[0]} is one.", path="search.sampler"))
    for index, point in enumerate(study.search.warm_start):
        found.extend(_wrong_point(study, point, where=f"search.warm_start.{index}"))
    return found


def _wrong_start(study: Study) -> list[ConfigError]:
    run = study.run({})
    if run.init_from.path is None:
        return []
    rule = "all trials start from the same adapters, so that it cannot be searched; set it as it was trained"
    searched = [path for path in study.space if path.startswith("method.") and path.partition(".")[2] not in MAY_DIFFER]
    return [
        *(ConfigError(f"{rule}.", path=path) for path in searched),
        *(mistake for mistake in start_mistakes(run) if mistake.path not in searched),
    ]


def _wrong_point(study: Study, point: Point, *, where: str) -> list[ConfigError]:
    found = []
    for path, value in point.items():
        domain = study.space.get(path)
        if domain is None:
            known = did_you_mean(path, study.space)
            found.append(ConfigError(f"{path!r} is no domain of this study.{known}", path=where))
        elif not domain.contains(value):
            found.append(ConfigError(f"{path} is searched in {to_line(domain.as_mapping())}, but got {value!r}.", path=where))
        elif path not in study.active(point):
            section = path.partition(".")[0]
            found.append(ConfigError(f"{path!r} does not count under {study.run(point).flat()[f'{section}.name']!r}.", path=where))
    return found


def _unknown_keys(tree: Mapping[Any, Any]) -> list[ConfigError]:
    known = (*RUN_KEYS, *SEARCH_KEYS)
    return [ConfigError(f"unknown section of a study.{did_you_mean(str(key), known)}", path=str(key)) for key in tree if key not in known]


def _part(tree: Mapping[str, Any], key: str) -> Any:
    value = tree.get(key)
    return {} if value is None else value


def _resolved_run(tree: Mapping[str, Any]) -> dict[str, Any]:
    run = {key: tree[key] for key in RUN_KEYS if tree.get(key) is not None}
    data = run.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("root"), str):
        run["data"] = {**data, "root": str(DataConfig.model_validate({"root": data["root"]}).root)}
    return run


def _read_name(name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"a name is made of letters, digits, `.`, `_` and `-`, but got {name!r}.", path="name")
    return name


def _read_tree(path: Path, settings: Mapping[str, Any] | None) -> Mapping[str, Any]:
    tree = read_mapping(path)
    for key, value in (settings or {}).items():
        tree = assign(tree, path=key, value=value)
    return tree


def _read_folder(output: Any) -> Path:
    if not isinstance(output, str | Path) or not str(output):
        raise ConfigError(f"a folder is needed, but got {output!r}.", path="output")
    return Path(output).expanduser().absolute()


def _read_storage(storage: Any) -> str | None:
    if storage is None:
        return None
    if not isinstance(storage, str):
        raise ConfigError(f"`s3://bucket/prefix` or an absolute folder is needed, but got {storage!r}.", path="storage")
    return checked_location(storage)
