"""What going on costs: a sweep after so many trials, against a new one; and a lane, against an epoch of its training.

    python benchmarks/resume_cost.py

A sweep is extended by a few trivial trials, so that everything it does at its start is done: Ray, the lease, the books, the
workers, MLflow. The time counts from the call to the end of the first new trial. A lane is taken up from its files by a
worker that has its backbone and data already.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import control_plane
from driver_costs import finish_times, keep, let_ray_find_workers

NAME = "control-plane"
MORE = 8


def until_first_trial(output: Path, *, trials: int) -> float:
    """Run a sweep to so many trials; return the seconds from the call to the end of the first one that was not there before."""
    from pace_tune.search.sweep import run_sweep
    from pace_tune.study.study_config import Study

    known = len(finish_times(output / NAME)) if (output / NAME).exists() else 0
    options = argparse.Namespace(reports=5, trials=trials, sampler="random", lanes=8, store=None)
    began = time.time()
    run_sweep(Study.parse(control_plane.the_study(output, options)), quiet=True, worker="trivial_worker:TrivialWorker")
    return finish_times(output / NAME)[known] - began


def sweeps(sizes: list[int]) -> Iterator[tuple[int, float]]:
    """Yield how many trials had ended, and the seconds until the first new one had."""
    for size in sizes:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            output = Path(folder)
            new_s = until_first_trial(output, trials=size or MORE)
            yield size, until_first_trial(output, trials=size + MORE) if size else new_s


def lanes(count: int, *, rounds: int) -> dict[str, float]:
    """Return the CPU time of taking lanes up again, and of opening new ones, over that of an epoch."""
    from pace_tune.study.study_config import Study
    from pace_tune.worker import Worker

    whole = {"name": "lanes", "task": {"name": "digits", "shots": 10, "val_per_class": 10}, "backbone": "vit_nano_cifar10"}
    whole |= {"method": {"name": "lora_add", "rank": 4}, "objective": "pace", "optim": {"epochs": 50, "warmup_epochs": 0, "batch_size": 16}}
    run = Study.parse({**whole, "measure": {"every_epochs": 0}, "search": {"trials": 1}}).run({}).as_mapping()
    shared = {key: run[key] for key in ("task", "backbone", "data")}
    found: dict[str, list[float]] = {"opened_again": [], "opened_new": []}
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(shared, storage=folder, threads=1)
        for turn in range(rounds + 1):
            names = [f"t{turn * count + lane:04d}" for lane in range(count)]
            new_s = _cpu(lambda names=names: [worker.open(name, run) for name in names])
            _cpu(worker.advance)
            epoch_s = statistics.median(_cpu(worker.advance) for _ in range(3))
            for name in names:
                worker.close(name)
            again_s = _cpu(lambda names=names: [worker.open(name, run) for name in names])
            # The first round fills caches.
            if turn:
                found["opened_again"].append(again_s / epoch_s)
                found["opened_new"].append(new_s / epoch_s)
            for name in names:
                worker.close(name)
    return {key: statistics.median(values) for key, values in found.items()}


def _cpu(fn: Any) -> float:
    began = time.process_time()
    fn()
    return time.process_time() - began


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 100, 1000], help="trials that had ended; 0 is a new sweep")
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    let_ray_find_workers()
    figures: dict[str, Any] = {"lane_over_epoch": lanes(options.lanes, rounds=options.rounds)}
    figures["s_until_first_new_trial"] = {size: round(seconds, 1) for size, seconds in sweeps(options.sizes)}
    print(json.dumps(figures, indent=1))
    keep(options.json, figures=figures)


if __name__ == "__main__":
    main()
