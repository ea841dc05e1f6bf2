"""One fine-tuning with every choice fixed: the mapping that goes through the door, checked and typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from pydantic.fields import FieldInfo

from pace_tune import registry
from pace_tune.component import Component
from pace_tune.errors import ConfigError, MistakesError, UnknownNameError
from pace_tune.registry import Registry
from pace_tune.study.domains import is_domain
from pace_tune.study.paths import COMPONENTS, flatten, nest
from pace_tune.study.protocol import with_protocol
from pace_tune.study.yaml_text import read_mapping

REGISTRIES: dict[str, Registry[Any]] = {
    "task": registry.tasks,
    "backbone": registry.backbones,
    "method": registry.methods,
    "objective": registry.objectives,
}


DEFAULT_NAMES = {"objective": "pace"}
"""What a section is called where a file leaves it out."""


class Section(BaseModel):
    """A frozen part of a configuration. Its mistakes are `ConfigError`s of one line each."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    section: ClassVar[str] = ""
    """Where in the file it stands."""

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Return the section that a mapping describes.

        Raises:
            ConfigError: A name or a field is unknown or breaks its rule; one line per mistake.
        """
        if not isinstance(obj, Mapping | cls):
            raise ConfigError(f"a mapping is needed, but got {obj!r}.", path=cls.section)
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise MistakesError(cls._mistakes(error)) from None

    @classmethod
    def _mistakes(cls, error: ValidationError) -> Iterator[ConfigError]:
        for complaint in error.errors():
            owner: type[Section] = cls
            for part in complaint["loc"][:-1]:
                inner = owner.model_fields[part].annotation if part in owner.model_fields else None
                owner = inner if isinstance(inner, type) and issubclass(inner, Section) else owner
            if complaint["type"] != "default_factory_not_called":  # it follows from another complaint
                yield registry.describe(complaint, path=cls.section, known=tuple(owner.model_fields), owner=owner.section or "run")


class OptimConfig(Section):
    """How the parameters move."""

    section = "optim"

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Peak learning rate."""
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    """Decoupled weight decay, on everything that trains."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's averaging factors."""
    epochs: int = Field(default=100, ge=1)
    """Passes over the training split."""
    batch_size: int = Field(default=64, ge=1)
    """Examples per step."""
    # The paper's 10 of 100, in proportion where a run is shorter.
    warmup_epochs: int = Field(default_factory=lambda given: min(10, given["epochs"] // 10), ge=0)
    """Epochs of linear warm-up; a tenth of `epochs`, at most 10, unless given."""
    warmup_lr: float = Field(default=1e-6, ge=0, allow_inf_nan=False)
    """Learning rate at the start of the warm-up."""
    min_lr: float = Field(default=1e-5, ge=0, allow_inf_nan=False)
    """Learning rate at the end of the decay."""
    schedule: Literal["cosine", "cosine_published", "linear", "constant"] = "cosine"
    """After the warm-up: per-step cosine, the per-epoch stepping of the published code, a straight line, or no decay."""
    clip_grad_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Largest gradient norm of a step; null does not clip."""
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    """Stochastic depth of the last block; falls linearly to 0 in the first."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            rule = "`warmup_epochs < epochs` must hold"
            raise ConfigError(f"{rule}, but got warmup_epochs={self.warmup_epochs}, epochs={self.epochs}.", path="optim.warmup_epochs")
        return self


class DataConfig(Section):
    """Which examples a run sees, and how they are changed."""

    section = "data"

    root: Path | None = None
    """Folder with data sets; `~` is expanded. Tasks that carry their own data need none."""
    cache: Path | None = None
    """Folder for decoded images, shared by all workers of a machine; null takes one beside the data, or `~/.cache/pace-tune`."""
    augment: Literal["none", "flip", "crop_flip"] = "none"
    """Random changes of training images."""
    selection: Literal["val"] = "val"
    """The split that picks the best epoch and the best trial. Never test."""
    train_on: Literal["train", "train+val"] = "train"
    """The split that is trained on; `train+val` is for confirming a recipe that is already chosen."""

    @model_validator(mode="before")
    @classmethod
    def _expand_home(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = {key: data[key] for key in ("root", "cache") if isinstance(data.get(key), str | Path)}
        # Absolute, because a worker's current folder is another one.
        return {**data, **{key: Path(value).expanduser().absolute() for key, value in given.items()}}

    def missing(self) -> list[ConfigError]:
        """Return what is not there on this machine; a worker's machine may be another one."""
        if self.root is None or self.root.is_dir():
            return []
        return [ConfigError(f"a folder must be there, but got {str(self.root)!r}.", path="data.root")]


class InitConfig(Section):
    """What a run starts from where that is not its method's own start values: adapters that were trained before."""

    section = "init_from"

    path: Path | None = None
    """Folder of a trained run, folder or `lane.safetensors` of a lane, or folder of a peft adapter; null starts fresh."""
    head: bool = True
    """Take the head over too, where it has as many outputs as this run's; else it starts fresh."""

    @model_validator(mode="before")
    @classmethod
    def _absolute(cls, data: Any) -> Any:
        given = {"path": data} if isinstance(data, str | Path) else data
        if not isinstance(given, Mapping) or not isinstance(given.get("path"), str | Path):
            return given
        return {**given, "path": Path(given["path"]).expanduser().absolute()}


# Chosen so that measuring adds less than a tenth to a run, whatever its length: benchmarks/measure_cost.py.
MEASUREMENTS, EPOCHS_EACH = 10, 6
FEWEST_SAMPLES, MOST_SAMPLES = 16, 64


class MeasureConfig(Section):
    """Which quantities of the generalisation theory are measured on the way, and how dearly."""

    section = "measure"

    every_epochs: int | None = Field(default=None, ge=0)
    """Interval, the last epoch always; 0 measures nothing. Null: ten times from first to last, but in one epoch of six at most."""
    samples: int | None = Field(default=None, ge=1)
    """Examples that are looked at. Null: 64 for the gap; for norms and distances an eighth of the training split, from 16 to 64."""
    jacobian_projections: int = Field(default=1, ge=1)
    """Random projections that estimate the Jacobian norm."""
    grad_norm: bool = True
    """Norm of the loss gradient."""
    jacobian_norm: bool = True
    """Norm of the logits' Jacobian."""
    fp_distance: bool = True
    """Squared distance of the logits from the pretrained model's."""
    delta_norm: bool = True
    """Norm of the weight deltas."""

    def due(self, epoch: int, *, epochs: int) -> bool:
        """Whether an epoch of a run, counted from 1, is one to measure. It depends on nothing else, so a resumed run agrees."""
        if self.every_epochs is not None:
            return self.every_epochs > 0 and (epoch % self.every_epochs == 0 or epoch == epochs)
        times = min(MEASUREMENTS, epochs // EPOCHS_EACH)
        if times < 2:
            return epoch == epochs
        return any(epoch == 1 + round(i * (epochs - 1) / (times - 1)) for i in range(times))

    def samples_of(self, train: int) -> int:
        """Return how many examples norms and distances are taken on where the training split has `train`."""
        return max(FEWEST_SAMPLES, min(MOST_SAMPLES, train // 8)) if self.samples is None else self.samples

    @property
    def gap_samples(self) -> int:
        """How many training examples the generalisation gap is taken on: it needs more, and costs less."""
        return MOST_SAMPLES if self.samples is None else self.samples


def _component(kind: str, value: Any) -> Any:
    if not isinstance(value, str | Mapping | Component):
        raise ConfigError(f"a name or a mapping with a name is needed, but got {value!r}.", path=kind)
    try:
        return REGISTRIES[kind].build(value)
    except UnknownNameError as error:
        raise ConfigError(str(error), path=f"{kind}.name") from None


def _as_mapping(component: Component) -> dict[str, Any]:
    return {"name": component.name, **component.model_dump(mode="json", by_alias=True)}


_Dump = PlainSerializer(_as_mapping)


class RunConfig(Section):
    """One fine-tuning with every choice fixed.

    Components come as their name, or as a mapping of a name and fields. Classes are looked up in the registries when a
    run is built, not before: loading a method's file imports torch.

    Example:
        >>> run = RunConfig.model_validate({"task": "digits", "backbone": "vit_nano_cifar10", "method": "linear"})
        >>> run.flat()["objective.name"]
        'pace'
    """

    task: Annotated[Any, BeforeValidator(partial(_component, "task")), _Dump]
    """What is learned."""
    backbone: Annotated[Any, BeforeValidator(partial(_component, "backbone")), _Dump]
    """The pretrained model."""
    method: Annotated[Any, BeforeValidator(partial(_component, "method")), _Dump]
    """How the delta is parametrised."""
    objective: Annotated[Any, BeforeValidator(partial(_component, "objective")), _Dump] = Field(
        default_factory=lambda: REGISTRIES["objective"].build(DEFAULT_NAMES["objective"])
    )
    """What is minimised."""
    optim: OptimConfig = Field(default_factory=OptimConfig)
    """How the parameters move."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Which examples it sees."""
    init_from: InitConfig = Field(default_factory=InitConfig)
    """What it starts from."""
    measure: MeasureConfig = Field(default_factory=MeasureConfig)
    """What is measured on the way."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of everything random, the few-shot split included."""

    @classmethod
    def load(cls, path: str | Path, *, settings: Mapping[str, Any] | None = None) -> RunConfig:
        """Read and check a run file.

        Args:
            path: The YAML file.
            settings: Dotted path -> value, set over what the file says.

        Raises:
            ConfigError: Something is wrong; one line per mistake.
        """
        tree = read_mapping(Path(path))
        holes = [key for key, value in flatten(tree).items() if is_domain(value)]
        if holes or "search" in tree:
            raise ConfigError(f"this is a study, a run with holes: run `pace-tune sweep {path}`.", path=(holes or ["search"])[0])
        run = cls.model_validate(with_protocol(tree))
        return run.with_values(settings) if settings else run

    def as_mapping(self) -> dict[str, Any]:
        """Return the nested mapping of plain values: what RUN.yaml holds and what goes through the door."""
        return self.model_dump(mode="json", by_alias=True)

    def as_short_mapping(self) -> dict[str, Any]:
        """Return the mapping without what the run would be the same without, for people: the names, and what is not the default."""
        flat = self.flat()
        for path in self.flat():
            rest = {key: value for key, value in flat.items() if key != path}
            if path.removesuffix(".name") not in COMPONENTS:
                with suppress(ConfigError):  # a field without a default
                    flat = rest if RunConfig.model_validate(nest(rest)) == self else flat
        return {key: value["name"] if key in COMPONENTS and list(value) == ["name"] else value for key, value in nest(flat).items()}

    def flat(self) -> dict[str, Any]:
        """Return ``{"method.rank": 4, ...}``, every field by its dotted path."""
        return flatten(self.as_mapping())

    def with_values(self, values: Mapping[str, Any]) -> RunConfig:
        """Return this run with some values changed, by dotted path.

        Where a name changes, the fields that the new class does not have fall away.

        Raises:
            ConfigError: A path or a name is unknown, or a value breaks its rule.
        """
        flat = self.flat()
        changes = flatten(values)
        for section in COMPONENTS:
            name = changes.get(f"{section}.name", flat[f"{section}.name"])
            if name != flat[f"{section}.name"] and name in REGISTRIES[section].names():
                kept = {"name", *fields_of(section, name)}
                flat = {path: value for path, value in flat.items() if path.partition(".")[0] != section or path.partition(".")[2] in kept}
        return RunConfig.model_validate(nest({**flat, **changes}))


def fields_of(section: str, name: str = "") -> dict[str, FieldInfo]:
    """Return the fields of a section as YAML writes them; those of the class called `name` where it is a component's.

    Raises:
        UnknownNameError: The name is not registered.
    """
    cls = REGISTRIES[section].get(name) if section in REGISTRIES else RunConfig.model_fields[section].annotation
    fields: dict[str, FieldInfo] = getattr(cls, "model_fields", {})
    return {info.alias or field: info for field, info in fields.items()}
