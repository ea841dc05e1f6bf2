"""Puts what a command found on its run in the dashboard, where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def track(
    folder: Path, *, files: Sequence[Path], tags: Mapping[str, str] | None = None, metrics: Mapping[str, float | None] | None = None
) -> bool:
    """Put files, tags and numbers on the run of the sweep in a folder, or of the trial whose lane it is; say whether there is one."""
    from pace_tune.results.sweep_data import open_study
    from pace_tune.study.study_config import Study
    from pace_tune.study.sweep_folder import LANES, STUDY_FILE
    from pace_tune.tracking.attach import attach

    lane = folder.name if folder.parent.name == LANES else ""
    sweep = folder.parent.parent if lane else folder
    if not (sweep / STUDY_FILE).is_file():
        return False
    # Where the folder lies now counts, not where it lay when it was written.
    study = Study.load(sweep / STUDY_FILE, settings={"output": str(sweep.parent)})
    sweep_id = str(open_study(sweep).user_attrs.get("sweep_id", ""))
    return attach(study, sweep_id=sweep_id, files=files, tags=tags, metrics=metrics, lane=lane)
