"""The Ray Tune experiment of a sweep: made, or taken up from its snapshot."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray import tune
from ray.tune import ResumeConfig
from ray.tune.experiment import Trial

from pace_tune.cluster.resources import TRIAL_CPUS
from pace_tune.search.controller import mended
from pace_tune.search.early_stopping import LaneScheduler
from pace_tune.search.events import SweepEvents
from pace_tune.search.searcher import Proposals, StudySearcher
from pace_tune.search.trial import LaneTrial

FOLDER = "tune"
TRIAL_FAILURES = 5
"""A trial's process holds nothing: it is started again, and its lane goes on where it is."""
MANY_TRIALS = 300
"""With more, Tune chooses the period of its snapshots itself: each one holds every trial."""


def run_experiment(
    searcher: StudySearcher, scheduler: LaneScheduler, events: SweepEvents, *, folder: Path, slots: int, trials: int | None
) -> None:
    """Run Tune until there are no more trials.

    `tune.run` and not `Tuner`: a restored `Tuner` takes its searcher, scheduler and callbacks out of a pickle of the first
    start, while these belong to this process.

    Raises:
        Exception: What `events` raises to leave in the middle.
    """
    many = trials is None or trials > MANY_TRIALS
    variables = {"TUNE_MAX_PENDING_TRIALS_PG": str(slots), **({} if many else {"TUNE_GLOBAL_CHECKPOINT_S": "1"})}
    with _environment(variables), _silent("ray.tune", "ray.train"), mended():
        tune.run(
            LaneTrial,
            name=FOLDER,
            storage_path=str(folder),
            search_alg=Proposals(searcher),
            scheduler=scheduler,
            # The searcher knows when there are enough; -1 lets a finished sweep be extended.
            num_samples=-1,
            callbacks=[events],
            reuse_actors=True,
            resources_per_trial={"cpu": TRIAL_CPUS},
            max_failures=TRIAL_FAILURES,
            raise_on_failed_trial=False,
            trial_name_creator=_lane_of,
            trial_dirname_creator=_lane_of,
            resume_config=ResumeConfig() if restorable(folder / FOLDER) else None,
            verbose=0,
        )


def restorable(folder: Path) -> bool:
    """Whether a folder holds a snapshot that Tune can take up; one that was torn by a kill is not, and nothing is lost by it."""
    snapshots = sorted(folder.glob("experiment_state-*.json"))
    if not snapshots or not any(folder.glob("search_gen_state-*.json")):
        return False
    try:
        return bool(json.loads(snapshots[-1].read_text(encoding="utf-8"))["trial_data"])
    except (OSError, ValueError, KeyError):
        return False


def _lane_of(trial: Trial) -> str:
    return str(trial.config["lane"])


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables that the user did not set, for a while: Tune reads nothing else."""
    mine = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Keep loggers quiet: what concerns the user is said by the sweep."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
