"""A large cluster on one machine: hundreds of places that replay recorded curves under the real scheduler, books and tracking.

    python benchmarks/many_slots.py --trials 5000 --workers 8 --lanes 25

Training is all that is left out. Prints how busy the places were, and whether memory and time per decision grow with the trials
that ended. A place is busy while a lane is in an epoch; waiting for the next trial, or for what to do, is not.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from driver_costs import cpu_per_trial, finish_times, growth, keep, let_ray_find_workers, per_trial, sampled
from recorded_worker import CURVES, EPOCH_S

HERE = Path(__file__).parent
NAME = "many-slots"
Epoch = tuple[float, float, int]
"""When it started, when it ended, and how many lanes were in it."""


def the_study(output: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the study: early stopping on curves of a study of digits."""
    epochs = len(json.loads(options.curves.read_text(encoding="utf-8"))["curves"][0])
    return {
        "name": NAME,
        "task": "digits",
        "backbone": "vit_nano_cifar10",
        "method": {"name": "lora_add", "rank": {"int": [2, 16]}},
        "objective": {"name": "pace", "sigma": {"float": [0.1, 2.0]}},
        "optim": {"lr": {"float": [1e-4, 1e-1], "log": True}, "epochs": epochs, "warmup_epochs": 2},
        "search": {"trials": options.trials, "sampler": options.sampler, "early_stopping": {"name": "asha", "reduction": 3}},
        "resources": {"workers": options.workers, "lanes": options.lanes, "cpus_per_worker": 0.1},
        "output": str(output),
    }


def read_epochs(storage: Path) -> list[Epoch]:
    """Return what the workers wrote down."""
    lines = (line.split() for path in storage.rglob("epochs-*.txt") for line in path.read_text(encoding="utf-8").splitlines())
    return sorted((float(started), float(ended), int(lanes)) for started, ended, lanes in lines)


def busy(epochs: Iterable[Epoch], *, places: int, start: float, end: float) -> float:
    """Return the share of the places' time that lay in an epoch, between two moments."""
    overlaps = (lanes * max(0.0, min(ended, end) - max(started, start)) for started, ended, lanes in epochs)
    return sum(overlaps) / (places * (end - start))


def first_full(epochs: list[Epoch], *, places: int) -> float:
    """Return when, for the first time, so many lanes were in an epoch at once."""
    changes = sorted([(started, lanes) for started, _, lanes in epochs] + [(ended, -lanes) for _, ended, lanes in epochs])
    running = 0
    for at, change in changes:
        running += change
        if running >= places:
            return at
    raise SystemExit(f"never were {places} lanes in an epoch at once.")


def main() -> None:
    """Run the sweep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--lanes", type=int, default=25, help="of each worker")
    parser.add_argument("--epoch-s", type=float, default=5.0)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--curves", type=Path, default=HERE / "curves" / "digits.json")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Ray's processes look for the worker where this script lies, and sleep the same epochs.
    let_ray_find_workers()
    os.environ |= {CURVES: str(options.curves.resolve()), EPOCH_S: str(options.epoch_s)}
    from pace_tune.search.sweep import run_sweep
    from pace_tune.study.study_config import Study

    with tempfile.TemporaryDirectory() as folder, sampled() as samples:
        began = time.time()
        result = run_sweep(Study.parse(the_study(Path(folder), options)), quiet=True, worker="recorded_worker:RecordedWorker")
        ends, epochs = finish_times(Path(folder) / NAME), read_epochs(Path(folder))
    places, part = options.workers * options.lanes, min(500, len(ends) // 3)
    full, last_start = first_full(epochs, places=int(0.95 * places)), ends[-places]
    figures = {"state": result.state, "trials": len(ends), "outcomes": dict(result.counts), "whole_s": time.time() - began}
    figures |= {"epochs_trained": sum(lanes for *_, lanes in epochs), "s_until_full": full - began}
    figures |= {"busy": busy(epochs, places=places, start=full, end=last_start)}
    figures |= {"busy_from_first_epoch_to_end": busy(epochs, places=places, start=epochs[0][0], end=ends[-1])}
    figures |= {**per_trial(ends, part=part), **cpu_per_trial(samples, ends, part=part)}
    figures |= {"driver_mib_per_100_trials": growth(samples, ends), "untracked_bytes": result.untracked_bytes}
    for key, value in figures.items():
        print(f"{key:32} {value:.3f}" if isinstance(value, float) else f"{key:32} {value}")
    keep(options.json, figures=figures)


if __name__ == "__main__":
    main()
