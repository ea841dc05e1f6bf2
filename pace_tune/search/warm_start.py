"""First proposals from other sweeps: their best recipes, as far as this study searches what those set."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pace_tune.errors import ConfigError, did_you_mean
from pace_tune.study.paths import flatten
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_name, database_url, has_database, has_study

RUN = "run"
"""Where a trial keeps the run that it was."""
NAMED = ("method", "objective")


def warm_points(study: Study) -> list[dict[str, Any]]:
    """Return the best recipes of the sweeps in `search.warm_start_from`, the best of each first, every point once.

    A point holds what this study searches and what lies in its domains: the sampler proposes the rest. What belongs to a method or
    objective that this study does not try is left out; a rank means something else elsewhere.

    Raises:
        ConfigError: There is no such sweep, or no trial of it ran to its end.
    """
    count = study.search.warm_start_best
    recipes = [list(itertools.islice(_best_runs(_folder(study, given)), count)) for given in study.search.warm_start_from]
    ranked = (run for place in itertools.zip_longest(*recipes) for run in place if run is not None)
    points = [point for run in ranked if (point := translated(run, study=study))]
    return [point for index, point in enumerate(points) if point not in points[:index]]


def translated(run: Mapping[str, Any], *, study: Study) -> dict[str, Any]:
    """Return the point of a study that comes nearest to a run of another one; it may be partial, or empty."""
    settings = flatten(run)
    foreign = [section for section in NAMED if settings.get(f"{section}.name") not in study.holes.names(section)]
    point = {
        path: settings[path]
        for path, domain in study.space.items()
        if path.partition(".")[0] not in foreign and path in settings and domain.contains(settings[path])
    }
    active = study.active(point)
    return {path: value for path, value in point.items() if path in active}


def _best_runs(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the runs of a sweep's trials that ran to their end, best first."""
    found = _open(folder)
    if found is None:
        raise ConfigError(f"no trial yet in the sweep in {str(folder)!r}.", path="search.warm_start_from")
    sign = -1.0 if found.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
    finished = [trial for trial in found.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if trial.user_attrs.get(RUN)]
    if not finished:
        raise ConfigError(f"no trial of the sweep in {str(folder)!r} has run to its end yet.", path="search.warm_start_from")

    def place(trial: FrozenTrial) -> tuple[float, int]:
        return sign * (trial.value or 0.0), trial.number

    yield from (trial.user_attrs[RUN] for trial in sorted(finished, key=place))


def _open(folder: Path) -> optuna.Study | None:
    """Return the Optuna study of a sweep, None where it ended while it started."""
    url = database_url(folder)
    try:
        if not has_study(folder):
            return None
        storage = optuna.storages.RDBStorage(url)
        names = optuna.get_all_study_names(storage)
        # A folder may have been renamed; a server holds other people's studies too.
        moved = url.startswith("sqlite") and folder.name not in names
        return optuna.load_study(study_name=names[0] if moved else folder.name, storage=storage)
    except (SQLAlchemyError, sqlite3.Error, IndexError, KeyError, RuntimeError) as error:
        reason = f"{database_name(folder)}: cannot read this study database ({type(error).__name__})."
        raise ConfigError(reason, path="search.warm_start_from") from error


def _folder(study: Study, given: str) -> Path:
    """Return the folder of a sweep that is named by its folder, its name in this study's output folder, or its study file."""
    path = Path(given).expanduser()
    stem = path.stem if path.suffix in (".yaml", ".yml") else path.name
    for folder in (path, study.output / stem):
        if folder.is_dir() and has_database(folder):
            return folder.absolute()
    near = did_you_mean(stem, [folder.name for folder in study.output.glob("*") if has_database(folder)])
    raise ConfigError(f"there is no sweep {given!r}, neither here nor in {str(study.output)!r}.{near}", path="search.warm_start_from")
