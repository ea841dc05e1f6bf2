"""The winner of each data set by the selection metric: never by a test score, which sweeps do not even load."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pace_tune.errors import ConfigError, DataError, MistakesError, PaceTuneWarning, UnknownNameError, require
from pace_tune.files import write_text
from pace_tune.results.sweep_data import Sweep, read_sweeps
from pace_tune.study.run_config import RunConfig
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_folder import STUDY_FILE
from pace_tune.study.yaml_text import to_yaml
from pace_tune.wording import data_name

SEARCHED = "#   "
"""How a line with a searched value begins."""


@dataclass(frozen=True, kw_only=True)
class BestRun:
    """A winner, and the run that it is worth comparing with.

    Args:
        sweep: The sweep that found it.
        task: What it learns.
        path: Where the data lies, of a task that reads one's own.
        lane: The trial's name.
        metric: The selection metric, e.g. ``val/accuracy``.
        higher_is_better: Its direction.
        value: The selection metric at the end of the run.
        val_loss: Validation loss there, the tie-breaker; None where it was not measured.
        epochs: Epochs that it trained, all of its run's.
        finished: How many trials of the sweep ran every epoch: the field that it won against.
        config: Its run configuration, the mapping that ``RunConfig.model_validate`` takes.
        rival: The best run of the sweep with another objective, None where there is none.
        rival_lane: That trial's name.
        searched: What of its configuration the search chose, by dotted path.
    """

    sweep: str
    task: str
    lane: str
    metric: str
    higher_is_better: bool
    value: float
    val_loss: float | None
    epochs: int
    finished: int
    config: Mapping[str, Any]
    rival: Mapping[str, Any] | None = None
    rival_lane: str = ""
    searched: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""

    @property
    def data(self) -> str:
        """What it learns, as people tell it from others."""
        return data_name(self.task, self.path)

    def as_row(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def find_best(output: Path, *studies_or_tasks: str) -> list[BestRun]:
    """Return the winner of each task, of one's own data of each data set, over all sweeps of an output folder or some of them.

    Args:
        output: Folder of sweeps.
        studies_or_tasks: Sweeps' names, their study files or tasks' names; none takes every task.

    Raises:
        UnknownNameError: There is no such sweep and no sweep of such a task.
        DataError: No sweep has a trial that ran every epoch, or a task's name stands for several data sets.
    """
    return [best_of_group(group) for group in comparable(output, *studies_or_tasks)]


def comparable(output: Path, *studies_or_tasks: str) -> list[list[Sweep]]:
    """Return the chosen sweeps with a winner in groups: values of different data sets or metrics cannot be compared.

    Raises:
        UnknownNameError: There is no such sweep and no sweep of such a task.
        DataError: No sweep has a trial that ran every epoch, or a task's name stands for several data sets.
    """
    sweeps = choose_sweeps(output, *studies_or_tasks, with_winner=True)
    groups: dict[tuple[str, str, str], list[Sweep]] = {}
    for sweep in sweeps:
        if sweep.ranked:
            groups.setdefault((sweep.task, sweep.path, sweep.metric), []).append(sweep)
    if not groups:
        names = ", ".join(sweep.name for sweep in sweeps)
        begun = any(sweep.trials for sweep in sweeps)
        raise DataError(f"{output}: no trial has run every epoch yet in {names}." if begun else f"no trial yet in {names}.")
    return list(groups.values())


def write_run_yaml(best: BestRun, path: Path) -> Path:
    """Write the winner as a run file, as `pace-tune train` takes it, and return the path."""
    return write_text(path, run_yaml(best))


def run_yaml(best: BestRun) -> str:
    """Return the winner as the text of a run file: where it comes from, then the run with every value."""
    return f"{_origin(best)}\n{to_yaml(dict(best.config))}"


def short_yaml(best: BestRun) -> str:
    """Return the winner as people read it: what was searched, then the run without its defaults; it is a run file too."""
    shown = {path: f"{value:.4g}" if isinstance(value, float) else value for path, value in best.searched.items()}
    searched = ["# Searched:", *(f"{SEARCHED}{path} = {value}" for path, value in shown.items())] if shown else []
    lines = [_origin(best), *searched, "# The run, where it is not the default (best.yaml and `--full`: every value):"]
    return "\n".join([*lines, to_yaml(RunConfig.model_validate(best.config).as_short_mapping())])


def _origin(best: BestRun) -> str:
    origin = f"trial {best.lane} of the sweep {best.sweep},\n# first of {best.finished} that ran every epoch"
    return f"# {best.data}: {best.metric} {best.value:.4f}, {origin}."


def choose_sweeps(output: Path, *studies_or_tasks: str, with_winner: bool = False) -> list[Sweep]:
    """Return the sweeps of an output folder that names stand for, each once; all of them where no name is given.

    A damaged sweep that is not named is a warning, and the others are returned.

    Args:
        output: Folder of sweeps.
        studies_or_tasks: Sweeps' names, their study files or tasks' names.
        with_winner: A sweep without a winner does not hide the task that is called as it is.

    Raises:
        UnknownNameError: There is no such sweep and no sweep of such a task.
        DataError: There is no sweep, a task's name stands for several data sets, or a named sweep's database cannot be read.
        ConfigError: A named sweep's study cannot be read, or no sweep can.
    """
    sweeps, damaged = read_sweeps(output)
    if not sweeps and not damaged:
        raise DataError(f"{output}: no sweep in this folder.")
    _report_damaged(damaged, studies_or_tasks, sound={sweep.name for sweep in sweeps})
    names = [name for given in studies_or_tasks for name in _named(given, sweeps, with_winner=with_winner)]
    return [sweep for sweep in sweeps if not studies_or_tasks or sweep.name in names]


def _report_damaged(damaged: Mapping[str, ConfigError | DataError], named: Sequence[str], *, sound: set[str]) -> None:
    """Refuse a damaged sweep that is asked for; warn of the others where they might have had a say."""
    asked = {name for given in named for name in (given, _stem(given)) if given not in sound}
    if wanted := [error for name, error in damaged.items() if name in asked] or ([] if sound else list(damaged.values())):
        raise wanted[0] if len(wanted) == 1 else MistakesError(wanted)
    # Names of sweeps leave nothing open; a task, or everything, might have meant the damaged one too.
    for error in damaged.values() if asked or not named else ():
        warnings.warn(f"left out: {error}", PaceTuneWarning, stacklevel=3)


def _named(study_or_task: str, sweeps: list[Sweep], *, with_winner: bool) -> list[str]:
    # A study file's stem is the name of its sweep, unless the sweep was named otherwise.
    found = [sweep for sweep in sweeps if sweep.name in {study_or_task, _stem(study_or_task)}]
    if not found or (with_winner and not any(sweep.ranked for sweep in found)):
        found += _of_one_data_set(study_or_task, [sweep for sweep in sweeps if study_or_task in (sweep.task, sweep.data)])
    if not found:
        raise UnknownNameError("study or task", study_or_task, {name for sweep in sweeps for name in (sweep.name, sweep.task)})
    return [sweep.name for sweep in found]


def _of_one_data_set(task: str, sweeps: list[Sweep]) -> list[Sweep]:
    """Return the sweeps of a task; whoever names only `folder` need not mean what was scored best."""
    if len({sweep.path for sweep in sweeps}) > 1:
        raise DataError(f"{task!r} stands for several data sets: name a sweep, {', '.join(f'{one.name} ({one.path})' for one in sweeps)}.")
    return sweeps


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name


def best_of_group(sweeps: list[Sweep]) -> BestRun:
    """Return the winner over sweeps that can be compared, as `comparable` groups them.

    Raises:
        ConfigError: They select by a test score.
    """
    sign = -1.0 if sweeps[0].higher_is_better else 1.0
    first = min(sweeps, key=lambda one: (sign * (one.ranked[0].value or 0.0), one.ranked[0].metrics.get("val/loss", float("inf"))))
    return best_of(first)


def best_of(sweep: Sweep) -> BestRun:
    """Return the winner of one sweep.

    Raises:
        DataError: No trial of it has run every epoch.
        ConfigError: It selects by a test score.
    """
    if not sweep.ranked:
        raise DataError(f"{sweep.folder}: no trial has run every epoch yet.")
    # Whatever wrote the study: a test score never selects.
    require(not sweep.metric.startswith("test/"), "the selection metric is not a test score", metric=sweep.metric)
    winner = sweep.ranked[0]
    rival = next((trial for trial in sweep.ranked if trial.objective != winner.objective), None)
    study = Study.load(sweep.folder / STUDY_FILE)
    run = study.run(winner.point)
    return BestRun(
        sweep=sweep.name,
        task=sweep.task,
        path=sweep.path,
        lane=winner.lane,
        metric=sweep.metric,
        higher_is_better=sweep.higher_is_better,
        value=winner.value or 0.0,
        val_loss=winner.metrics.get("val/loss"),
        epochs=winner.epoch,
        finished=len(sweep.ranked),
        config=run.as_mapping(),
        rival=study.run(rival.point).as_mapping() if rival else None,
        rival_lane=rival.lane if rival else "",
        searched={path: value for path, value in run.flat().items() if path in winner.chosen},
    )
