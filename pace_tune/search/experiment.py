"""The Ray Tune experiment of a sweep: a new one each time it goes on, for the book knows what there is to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray import tune
from ray.tune.experiment import Trial

from pace_tune.cluster.held import silence
from pace_tune.search.controller import mended
from pace_tune.search.early_stopping import LaneScheduler
from pace_tune.search.events import NoProgress, SweepEvents
from pace_tune.search.searcher import StudySearcher
from pace_tune.search.trial import LaneTrial

FOLDER = "tune"
TRIAL_FAILURES = 5
"""A trial holds nothing: where the dispatcher died under it, it is handed over again, and its lane goes on where it is."""


def run_experiment(searcher: StudySearcher, scheduler: LaneScheduler, events: SweepEvents, *, folder: Path, slots: int) -> None:
    """Run Tune until there are no more trials.

    `tune.run` and not `Tuner`, which would pickle searcher, scheduler and callbacks, while these belong to this process.

    Raises:
        Exception: What `events` raises to leave in the middle.
    """
    with _environment({"TUNE_MAX_PENDING_TRIALS_PG": str(slots)}), silence("ray.tune").on(), silence("ray.train").on(), mended():
        tune.run(
            LaneTrial,
            name=FOLDER,
            storage_path=str(folder),
            search_alg=searcher,
            scheduler=scheduler,
            # The searcher knows when there are enough.
            num_samples=-1,
            callbacks=[events, NoProgress()],
            max_failures=TRIAL_FAILURES,
            raise_on_failed_trial=False,
            trial_name_creator=_lane_of,
            trial_dirname_creator=_lane_of,
            verbose=0,
        )


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
