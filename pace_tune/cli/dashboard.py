"""Puts what a command found on the sweep's run in the dashboard, where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def track(sweep_folder: Path, *, files: Sequence[Path], tags: Mapping[str, str] | None = None) -> bool:
    """Put files and tags on the run of the sweep in a folder; say whether there is such a run."""
    from pace_tune.results.sweep_data import open_study
    from pace_tune.study.study_config import Study
    from pace_tune.study.sweep_folder import STUDY_FILE
    from pace_tune.tracking.attach import attach

    # Where the folder lies now counts, not where it lay when it was written.
    study = Study.load(sweep_folder / STUDY_FILE, settings={"output": str(sweep_folder.parent)})
    sweep_id = str(open_study(sweep_folder).user_attrs.get("sweep_id", ""))
    return attach(study, sweep_id=sweep_id, files=files, tags=tags)
