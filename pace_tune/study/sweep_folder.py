"""The folder of a sweep: one study lives there, and no other study moves in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pace_tune.errors import ConfigError
from pace_tune.files import write_text
from pace_tune.study.paths import flatten
from pace_tune.study.study_config import Study
from pace_tune.study.yaml_text import read_mapping, to_yaml

STUDY_FILE = "study.yaml"
CHANGEABLE = ("output", "resources.", "tracking.", "search.trials", "search.time_budget_s")
"""What may differ when a sweep goes on: none of it changes what a trial is worth."""


def check_folder(study: Study) -> None:
    """Check that a sweep may start or go on in its folder; writes nothing.

    Raises:
        ConfigError: The folder holds another study, or something that is none.
    """
    folder = study.folder
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / STUDY_FILE).is_file():
        raise ConfigError(f"the folder {str(folder)!r} is not empty and holds no study; choose another `output` or `name`.", path="output")
    for path, there, here in differences(read_mapping(folder / STUDY_FILE), study.as_mapping()):
        message = f"the folder {str(folder)!r} holds another study: {path} is {there!r} there and {here!r} here"
        raise ConfigError(f"{message}; choose another `name` or `output`.", path="output")


def claim_folder(study: Study) -> Path:
    """Write the resolved study into its folder, made where it is missing, and return the folder.

    Raises:
        ConfigError: As `check_folder`.
    """
    check_folder(study)
    write_text(study.folder / STUDY_FILE, to_yaml(study.as_mapping()))
    return study.folder


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, value there, value here) where two resolved studies differ in what a trial is worth."""
    left, right = flatten(there), flatten(here)
    for path in {**left, **right}:
        if left.get(path) != right.get(path) and not path.startswith(CHANGEABLE):
            yield path, left.get(path), right.get(path)
