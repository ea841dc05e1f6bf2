"""How a study is searched, on what, and where it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pace_tune.errors import ConfigError, did_you_mean
from pace_tune.registry import samplers
from pace_tune.study.domains import to_number
from pace_tune.study.paths import flatten
from pace_tune.study.run_config import Section


class EarlyStopping(Section):
    """When a trial is given up."""

    section = "search.early_stopping"

    name: Literal["asha", "none"] = "asha"
    """Asynchronous successive halving, or every trial to its end."""
    grace_epochs: int | None = Field(default=None, ge=1)
    """Epochs before the first judgement; null = past the warm-up, and a tenth of the epochs."""
    reduction: float = Field(default=3.0, gt=1, allow_inf_nan=False)
    """One of so many trials goes on at each judgement."""


class SearchConfig(Section):
    """How the search proposes, how long it lasts, and what it looks for."""

    section = "search"

    sampler: str | dict[str, Any] = "tpe"
    """The algorithm that proposes: its name, or a mapping of the name and its settings."""
    trials: int | None = Field(default=None, ge=1)
    """How many runs are tried; a grid needs no number."""
    time_budget_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds after which nothing new starts."""
    metric: str | None = None
    """What is optimised; null = the task's metric on the validation split."""
    mode: Literal["max", "min"] | None = None
    """Which way is better; null = as the metric says."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of the proposals."""
    warm_start: tuple[dict[str, Any], ...] = ()
    """Points to try first, as dotted paths; what they leave out is proposed."""
    warm_start_from: tuple[str, ...] = ()
    """Sweeps of other tasks whose best recipes are tried next: folders, names in the output folder, or study files."""
    warm_start_best: int = Field(default=3, ge=1)
    """How many recipes of each."""
    baseline: bool = True
    """Try the defaults first, and the same with the objective `plain` second."""
    early_stopping: EarlyStopping = Field(default_factory=EarlyStopping)
    """When a trial is given up."""

    @property
    def sampler_name(self) -> str:
        """The algorithm's name."""
        return str(self.sampler["name"]) if isinstance(self.sampler, dict) else self.sampler

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("early_stopping"), str):
            return {**data, "early_stopping": {"name": data["early_stopping"]}}
        return data

    @field_validator("sampler", mode="before")
    @classmethod
    def _known_sampler(cls, sampler: Any) -> Any:
        # A bare name is checked without loading anything; only fields need the class.
        name = sampler.get("name") if isinstance(sampler, Mapping) else sampler
        if name not in samplers.names():
            raise ConfigError(f"unknown sampler {name!r}.{did_you_mean(str(name), samplers.names())}")
        if not isinstance(sampler, Mapping):
            return name
        try:
            built: dict[str, Any] = samplers.build(sampler).as_mapping()
            return built if len(built) > 1 else name
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix(f"{error.path}: "), path=f"search.{error.path}") from None

    @field_validator("metric")
    @classmethod
    def _not_test(cls, metric: str | None) -> str | None:
        if metric is not None and metric.startswith("test/"):
            raise ConfigError(f"a test score cannot select anything, but got {metric!r}.")
        return metric

    @field_validator("warm_start", mode="after")
    @classmethod
    def _flat_points(cls, points: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        return tuple(flatten(point) for point in points)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.trials is None and self.time_budget_s is None and self.sampler_name != "grid":
            raise ConfigError("a study needs a number of trials, or a time budget in `search.time_budget_s`.", path="search.trials")
        return self


class ResourcesConfig(Section):
    """What a sweep takes of the machine or the cluster."""

    section = "resources"

    workers: int = Field(default=1, ge=1)
    """Warm training processes."""
    lanes: int | Literal["auto"] = 4
    """Trials that a worker trains together; `auto` = as many as make each one cheaper, measured in the first epochs."""
    cpus_per_worker: float = Field(default=1, gt=0, allow_inf_nan=False)
    """CPUs that each process of a worker claims."""
    gpus_per_worker: float | Literal["auto"] = "auto"
    """GPUs that a worker claims; `auto` = one where there is one. Of several, each has a process that trains a part of every batch."""
    processes_per_worker: int | None = Field(default=None, ge=1)
    """Processes that train each batch together; null = one per GPU."""
    shard_backbone: bool = False
    """Spread the frozen weights over a worker's processes, for backbones that do not fit one GPU; whole copies are faster."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of a worker's CPU work; null = `cpus_per_worker`."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Of the frozen trunk; what trains stays in float32. `auto` = bfloat16 on GPUs, float32 elsewhere."""
    compile: Literal["auto"] | bool = "auto"
    """Whether training steps run the backbone's blocks through `torch.compile`; `auto` = on GPUs, since on CPUs it hardly pays."""
    cuda_graphs: Literal["auto"] | bool = "auto"
    """Whether training steps are recorded as CUDA graphs, which frees them of the host's pace; `auto` = yes, where there is a GPU."""

    @field_validator("lanes", mode="before")
    @classmethod
    def _a_count_or_auto(cls, lanes: Any) -> Any:
        number = lanes if lanes == "auto" else to_number(lanes)
        if number is None or (number != "auto" and (number < 1 or number != int(number))):
            raise ConfigError(f"a whole number >= 1 or 'auto' is needed, but got {lanes!r}.")
        return number if number == "auto" else int(number)

    @model_validator(mode="after")
    def _several_to_spread_over(self) -> Self:
        gpus = 1.0 if self.gpus_per_worker == "auto" else self.gpus_per_worker
        if self.shard_backbone and (self.processes_per_worker or gpus) < 2:
            rule = "one process cannot share a backbone: several are needed, by `resources.gpus_per_worker: 2` or more"
            raise ConfigError(f"{rule}.", path="resources.shard_backbone")
        return self

    @field_validator("gpus_per_worker", mode="before")
    @classmethod
    def _a_number_or_auto(cls, gpus: Any) -> Any:
        number = gpus if gpus == "auto" else to_number(gpus)
        if number is None or (number != "auto" and number < 0):
            raise ConfigError(f"a number >= 0 or 'auto' is needed, but got {gpus!r}.")
        return number


class TrackingConfig(Section):
    """Where MLflow writes."""

    section = "tracking"

    uri: str | None = None
    """Of the tracking store; null = `mlflow.db` in the output folder."""
    experiment: str | None = None
    """Name of the MLflow experiment; null = the task, of your own data with the name of its folder or file: `folder photos`."""
