"""The folder of a sweep: one study lives there, and no other study moves in."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pace_tune.errors import ConfigError
from pace_tune.files import write_text
from pace_tune.storage import Storage, checked_location, mirror, open_storage
from pace_tune.study.data_mark import DATA_FILE, changed_data, mark_data
from pace_tune.study.paths import flatten
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import VARIABLE as DATABASE_VARIABLE
from pace_tune.study.sweep_database import has_values, remove_database
from pace_tune.study.yaml_text import parse_yaml, read_mapping, to_yaml

STUDY_FILE, LANES, HISTORY = "study.yaml", "lanes", "history.jsonl"
MADE_BY_A_START = (LANES, "spool", "train", "tune")
"""Folders that a sweep makes before anything is learned."""
CHANGEABLE = ("output", "resources.", "tracking.", "search.trials", "search.time_budget_s")
"""What may differ when a sweep goes on: none of it changes what a trial is worth."""


def check_folder(study: Study) -> None:
    """Check that a sweep may start or go on in its folder, or begin anew there (`begins_anew`); writes nothing.

    Raises:
        ConfigError: The folder holds another study, or something that is none.
    """
    if not begins_anew(study):
        _refuse_another(study)


def begins_anew(study: Study) -> str:
    """Return how a study differs from the one in its folder, where nobody has learned anything from that one; else nothing."""
    if not (study.folder / STUDY_FILE).is_file() or not _untrained(study):
        return ""
    there = _as_read_now(read_mapping(study.folder / STUDY_FILE), name=study.name)
    differing = (f"{key} was {old!r} and is {new!r}" for key, old, new in differences(there, study.as_mapping()))
    return next(differing, changed_data(study, study.folder))


def clear_folder(folder: Path) -> None:
    """Take away what a sweep made in its folder in which no trial has finished an epoch, its database last; the rest stays."""
    for made in MADE_BY_A_START:
        shutil.rmtree(folder / made, ignore_errors=True)
    for file in (STUDY_FILE, DATA_FILE):
        (folder / file).unlink(missing_ok=True)
    remove_database(folder)


def claim_folder(study: Study) -> Path:
    """Write the resolved study into its folder, made where it is missing, and return the folder.

    Raises:
        ConfigError: As `check_folder`, and where the sweep would begin anew, too: `clear_folder` comes first.
    """
    _refuse_another(study)
    text = to_yaml(study.as_mapping())
    write_text(study.folder / STUDY_FILE, text)
    mark_data(study)
    if study.storage:
        _sweep_storage(study.storage, study.name).write(STUDY_FILE, text.encode())
    return study.folder


def fetch_lanes(folder: Path, *, wanted: str = HISTORY, lane: str = "") -> None:
    """Bring what a storage holds of a sweep's lanes into its folder, where the sweep keeps them in one.

    Args:
        folder: Of the sweep.
        wanted: How the names of the files end; empty takes all.
        lane: Of this one only.
    """
    location = read_mapping(folder / STUDY_FILE).get("storage")
    if location:
        prefix = f"{lane}/" if lane else ""
        lanes = _sweep_storage(checked_location(str(location)), folder.name).below(LANES)
        mirror(lanes, folder / LANES, wanted=lambda name: name.startswith(prefix) and name.endswith(wanted))


def publish_results(study: Study, files: Iterable[Path]) -> None:
    """Write a sweep's results beside its lanes, where those are in a storage."""
    for file in files if study.storage else ():
        _sweep_storage(str(study.storage), study.name).write(file.name, file.read_bytes())


def _untrained(study: Study) -> bool:
    """Whether all that a sweep is lies in its folder, and no trial has finished an epoch yet."""
    if study.storage or os.environ.get(DATABASE_VARIABLE) or any((study.folder / LANES).glob(f"*/{HISTORY}")):
        return False
    try:
        # Workers on other machines may keep their lanes there.
        return not has_values(study.folder)
    except sqlite3.Error:
        return False


def _refuse_another(study: Study) -> None:
    folder = study.folder
    if study.storage and (kept := _sweep_storage(study.storage, study.name).read(STUDY_FILE)) is not None:
        _refuse_differences(study, parse_yaml(kept.decode()), where=f"the storage {study.storage}/{study.name}", path="storage")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / STUDY_FILE).is_file():
        raise ConfigError(f"the folder {str(folder)!r} is not empty and holds no study; choose another `output` or `name`.", path="output")
    _refuse_differences(study, read_mapping(folder / STUDY_FILE), where=f"the folder {str(folder)!r}", path="output")
    if changed := changed_data(study, study.folder):
        raise ConfigError(f"{changed}, and scores cannot be compared; bring them back, or choose another `name`.", path="task.path")


def _refuse_differences(study: Study, there: Mapping[str, Any], *, where: str, path: str) -> None:
    for key, old, new in differences(_as_read_now(there, name=study.name), study.as_mapping()):
        message = f"{where} holds another study: {key} is {old!r} there and {new!r} here"
        data = f" (`--set name={Path(str(new)).stem}`)" if key == "task.path" else ""
        raise ConfigError(f"{message}; choose another `name`{data} or `{path}`.", path=path)


def _as_read_now(there: Mapping[str, Any], *, name: str) -> Mapping[str, Any]:
    """Return a resolved study with what its version did not know yet at its default."""
    try:
        return Study.parse(there, name=name).as_mapping()
    except ConfigError:  # it has what this version does not know: that is said as a difference
        return there


def _sweep_storage(location: str, name: str) -> Storage:
    return open_storage(location).below(name)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, value there, value here) where two resolved studies differ in what a trial is worth."""
    left, right = flatten(there), flatten(here)
    for path in {**left, **right}:
        if left.get(path) != right.get(path) and not path.startswith(CHANGEABLE):
            yield path, left.get(path), right.get(path)
