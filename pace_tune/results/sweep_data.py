"""A sweep as plain rows: its trials from the study database, their epochs from the lanes' histories.

Reads only, so it may look at a sweep that is running. Needs no torch: classes named by the study are not loaded.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pace_tune.errors import ConfigError, DataError
from pace_tune.results.axes import Axis
from pace_tune.study.paths import flatten
from pace_tune.study.sweep_database import database_name, database_url, has_study
from pace_tune.study.sweep_folder import LANES, STUDY_FILE, fetch_lanes
from pace_tune.study.yaml_text import read_mapping
from pace_tune.wording import data_name

if TYPE_CHECKING:
    import optuna
    import pandas as pd

_BROKEN = ("diverged", "out_of_memory", "failed")
_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial of a sweep.

    Args:
        number: Its number in the study, from 0.
        state: ``finished``, ``pruned``, ``running``, ``waiting``, or what broke it: ``diverged``, ``out_of_memory``, ``failed``.
        reason: Why it is in that state, where there is something to say.
        value: The selection metric at its last epoch.
        chosen: What the search chose, by dotted path.
        settings: Every value of its run by dotted path: what the study fixes and what the search chose.
        reports: One per epoch, in order; of a trial that was stopped early, up to the epoch that it was judged by.
        override: What it was given though the study fixes it otherwise: the baseline's objective.
    """

    number: int
    state: str
    reason: str
    value: float | None
    chosen: Mapping[str, Any]
    settings: Mapping[str, Any]
    reports: tuple[Mapping[str, Any], ...]
    override: Mapping[str, Any] = field(default_factory=dict)

    @property
    def point(self) -> Mapping[str, Any]:
        """What makes a run of its study."""
        return {**self.chosen, **self.override}

    @property
    def lane(self) -> str:
        """Its name in every place: folder, tag, report."""
        return f"t{self.number:04d}"

    @property
    def epoch(self) -> int:
        """The last of its reports."""
        return int(self.reports[-1]["epoch"]) if self.reports else 0

    @property
    def metrics(self) -> Mapping[str, float]:
        """Each metric at the last epoch that measured it."""
        merged: dict[str, float] = {}
        for report in self.reports:
            merged.update(report["metrics"])
        return merged

    @property
    def objective(self) -> str:
        """The name of its objective."""
        return str(self.settings.get("objective.name", "pace"))

    @property
    def ran_fully(self) -> bool:
        """Whether it trained every epoch of its run: only such trials can win."""
        whole = not self.reports or self.epoch >= int(self.reports[-1]["epochs"])
        return self.state == "finished" and whole and self.value is not None and math.isfinite(self.value)


@dataclass(frozen=True)
class Sweep:
    """What is known of a sweep: its folder, what it selects by, its trials in order."""

    folder: Path
    metric: str
    higher_is_better: bool
    fixed: Mapping[str, Any]
    search: Mapping[str, Any]
    """The study's `search` section, as its file says it."""
    axes: Mapping[str, Axis]
    """Dotted path -> domain of everything that was searched."""
    trials: tuple[Trial, ...]
    sweep_id: str = ""
    """What tells it from all others of its name."""
    spent_s: float = 0.0
    """Time of its drivers, where it has a budget."""

    @property
    def name(self) -> str:
        """The sweep's name, which is its folder's."""
        return self.folder.name

    @property
    def task(self) -> str:
        """The name of its task."""
        return str(self.fixed.get("task.name", ""))

    @property
    def path(self) -> str:
        """Where the data lies that its task was given by name; empty of published tasks."""
        return str(self.fixed.get("task.path") or "")

    @property
    def data(self) -> str:
        """What it learns, as people tell it from others."""
        return data_name(self.task, self.path)

    @property
    def searched(self) -> tuple[str, ...]:
        """The dotted paths of what was searched."""
        return tuple(self.axes)

    @cached_property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials that ran every epoch, best first; equal values by lower validation loss, then by age."""
        sign = -1.0 if self.higher_is_better else 1.0

        def rank(trial: Trial) -> tuple[float, float, int]:
            loss = trial.metrics.get("val/loss", math.inf)
            return sign * (trial.value or 0.0), loss if math.isfinite(loss) else math.inf, trial.number

        return tuple(sorted((trial for trial in self.trials if trial.ran_fully), key=rank))

    def frame(self) -> pd.DataFrame:
        """Return one row per trial: number, lane, state, value, every searched setting, every last metric."""
        import pandas as pd

        rows = [
            {"number": trial.number, "lane": trial.lane, "state": trial.state, "epoch": trial.epoch, "value": trial.value}
            | {path: trial.settings.get(path) for path in self.searched}
            | dict(trial.metrics)
            for trial in self.trials
        ]
        return pd.DataFrame(rows)

    def curves(self) -> pd.DataFrame:
        """Return one row per trial and epoch, a column per metric."""
        import pandas as pd

        rows = [
            {"number": trial.number, "lane": trial.lane, "objective": trial.objective, "epoch": report["epoch"], **report["metrics"]}
            for trial in self.trials
            for report in trial.reports
        ]
        return pd.DataFrame(rows)


def find_sweeps(output: Path) -> list[Path]:
    """Return the folders of the sweeps in an output folder, by name; one that has only just started is among them."""
    return sorted(path.parent for path in output.glob(f"*/{STUDY_FILE}"))


def read_sweep(folder: Path) -> Sweep:
    """Return what is known of the sweep in a folder; one that ended while it started has no trials.

    Raises:
        DataError: The folder holds no sweep, or its database cannot be read.
    """
    if not (folder / STUDY_FILE).is_file():
        raise DataError(f"{folder}: no sweep here, `{STUDY_FILE}` is missing.")
    tree = read_mapping(folder / STUDY_FILE)
    search = tree.pop("search", None) or {}
    fixed = {path: value for path, value in flatten(tree).items() if not isinstance(value, Mapping)}
    study = _study(folder)
    noted = study.user_attrs if study else {}
    proposed = study.get_trials(deepcopy=False) if study else []
    fetch_lanes(folder)
    trials = tuple(_trial(frozen, fixed, folder / LANES) for frozen in proposed)
    return Sweep(
        folder=folder,
        metric=str(search.get("metric") or ((study.metric_names if study else None) or [_task_metric(trials)])[0]),
        higher_is_better=study.directions[0].name == "MAXIMIZE" if study else search.get("mode") != "min",
        fixed=fixed,
        search=search,
        axes={path: Axis.of(path, domain) for frozen in proposed for path, domain in frozen.distributions.items()},
        trials=trials,
        sweep_id=str(noted.get("sweep_id", "")),
        spent_s=float(noted.get("spent_s", 0.0)),
    )


def read_sweeps(output: Path) -> tuple[list[Sweep], dict[str, ConfigError | DataError]]:
    """Return the sweeps of an output folder, and by name why the others cannot be read: a damaged one hides no other."""
    sweeps, damaged = [], dict[str, ConfigError | DataError]()
    for folder in find_sweeps(output):
        try:
            sweeps.append(read_sweep(folder))
        except (ConfigError, DataError) as error:
            damaged[folder.name] = error
    return sweeps, damaged


def _task_metric(trials: Iterable[Trial]) -> str:
    """Return the task's metric as the reports name it; the task's class would know, but bring torch with it."""
    names = (key.removeprefix("best/") for trial in trials for key in trial.metrics if key.startswith("best/") and key != "best/step")
    return f"val/{next(names, 'accuracy')}"


def open_study(folder: Path) -> optuna.Study:
    """Return the Optuna study of a sweep.

    Raises:
        DataError: Its database cannot be read, or it has not begun.
    """
    study = _study(folder)
    if study is None:
        raise DataError(f"no trial yet in {folder.name}.")
    return study


def _study(folder: Path) -> optuna.Study | None:
    """Return the Optuna study of a sweep, None where it ended while it started, or is starting now."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if not has_study(folder):
            return None
        url = database_url(folder)
        storage = optuna.storages.RDBStorage(url)
        names = optuna.get_all_study_names(storage)
        # A folder may have been renamed; a server holds other people's studies too.
        moved = url.startswith("sqlite") and folder.name not in names
        if not moved and folder.name not in names:
            return None
        return optuna.load_study(study_name=names[0] if moved else folder.name, storage=storage)
    except (SQLAlchemyError, sqlite3.Error, IndexError, KeyError, RuntimeError) as error:
        raise DataError(f"{database_name(folder)}: cannot read this study database ({type(error).__name__}).") from error


def _trial(frozen: optuna.trial.FrozenTrial, fixed: Mapping[str, Any], lanes: Path) -> Trial:
    reports = tuple(_judged(frozen, read_history(lanes / f"t{frozen.number:04d}" / "history.jsonl")))
    last = reports[-1] if reports else {}
    state = last["state"] if last.get("state") in _BROKEN else _STATES[frozen.state.name]
    values = frozen.values or [frozen.intermediate_values[step] for step in sorted(frozen.intermediate_values)[-1:]]
    chosen, override = {**frozen.params, **frozen.user_attrs.get("drawn", {})}, frozen.user_attrs.get("override", {})
    return Trial(
        number=frozen.number,
        state=state,
        reason=str(last.get("reason") or frozen.user_attrs.get("reason", "")),
        value=values[0] if values else None,
        chosen=chosen,
        settings={**fixed, **chosen, **override},
        reports=reports,
        override=override,
    )


def _judged(frozen: optuna.trial.FrozenTrial, reports: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield what a trial was judged by: a lane trains on until it hears that its trial was stopped, and nobody asked for that."""
    # One that diverged counts as pruned in the books too, but all that it did says how.
    stopped = frozen.state.name == "PRUNED" and frozen.user_attrs.get("outcome", "pruned") == "pruned"
    last = max(frozen.intermediate_values, default=math.inf) if stopped else math.inf
    yield from (report for report in reports if int(report["epoch"]) <= last)


def read_history(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield a lane's reports, one per epoch in order; epochs that were trained again after a crash count once."""
    if not path.is_file():
        return
    reports: dict[int, Mapping[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            report = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that a killed process was writing
        reports[int(report["epoch"])] = report
    yield from (reports[epoch] for epoch in sorted(reports))
