"""Trials per hour of a sweep against two usual ways to run the same trials with Ray.

    python benchmarks/sweep_throughput.py --trials 32

a) ours: warm workers that train lanes. b) one process per trial: a Ray Tune function that loads the backbone and the data and
trains. c) nested: a Tune function that starts a `TorchTrainer` for its trial, as Ray's documentation has it. All three train
the same configurations, (b) and (c) those that (a) proposed, with the same code underneath and the same files written; their
final values are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from driver_costs import keep, let_ray_find_workers

SHARED = ("task", "backbone", "data")
ACCURACY = "val/accuracy"


def the_study(output: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the study: a random search on digits, without early stopping, so that all sides do the same work."""
    return {
        "name": "throughput",
        "task": {"name": "digits", "shots": 10, "val_per_class": 10},
        "backbone": "vit_nano_cifar10",
        "method": {"name": "lora_add", "rank": 4},
        "objective": {"name": "pace", "sigma": {"float": [0.1, 2.0]}, "lambda": {"float": [0.02, 2.0], "log": True}},
        "optim": {"lr": {"float": [1e-3, 1e-2], "log": True}, "epochs": options.epochs, "warmup_epochs": 0, "batch_size": 16},
        "measure": {"every_epochs": 0},
        "search": {"trials": options.trials, "sampler": "random", "seed": 0, "early_stopping": {"name": "none"}},
        "resources": {"workers": options.processes, "lanes": options.lanes, "threads": 1},
        "output": str(output),
    }


def ours(output: Path, options: argparse.Namespace) -> tuple[float, dict[str, dict[str, Any]], dict[str, float]]:
    """Run the sweep; return its seconds, every trial's configuration and its final accuracy."""
    from pace_tune.search.sweep import run_sweep
    from pace_tune.study.study_config import Study

    study = Study.parse(the_study(output, options))
    started = time.perf_counter()
    result = run_sweep(study, quiet=True)
    seconds = time.perf_counter() - started
    runs = {entry.lane: study.run(entry.point).as_mapping() for entry in result.trials}
    return seconds, runs, {entry.lane: entry.curve[entry.last_epoch] for entry in result.trials}


def train(config: dict[str, Any]) -> float:
    """Train one run in this process, from its start to its end, and return its final accuracy."""
    from pace_tune.worker import Worker

    run = config["run"]
    worker = Worker({key: run[key] for key in SHARED}, storage=Path(config["output"]) / "lanes", threads=1)
    worker.open(config["lane"], run)
    while True:
        (report,) = worker.advance()
        if report["state"] != "running":
            return float(report["metrics"][ACCURACY])


def alone(config: dict[str, Any]) -> None:
    """(b) A trial that trains in its own process."""
    from ray import tune

    tune.report({ACCURACY: train(config)})


def nested(config: dict[str, Any]) -> None:
    """(c) A trial that starts a trainer, which starts a controller and a worker."""
    import ray.train
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def loop(config: dict[str, Any]) -> None:
        ray.train.report({ACCURACY: train(config)})

    TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(name=f"train-{config['lane']}", storage_path=config["output"], callbacks=[TuneReportCallback()]),
    ).fit()


def theirs(
    trainable: Any, output: Path, runs: dict[str, dict[str, Any]], *, cpus: float, at_once: int, dashboard: bool
) -> tuple[float, dict[str, float]]:
    """Run the configurations as trials of a Ray Tune function; return the seconds, start of Ray included, and the values."""
    import ray
    from ray import tune

    started = time.perf_counter()
    # Drivers of nested trainers get next to no share of the cores, or the trainers' workers could never start.
    # Without Ray's dashboard a nested trainer's places are not freed when it ends early, and the next one waits for them for ever.
    ray.init(num_cpus=at_once + 1, include_dashboard=dashboard, log_to_driver=False, logging_level="ERROR")
    configs = [{"lane": lane, "run": run, "output": str(output)} for lane, run in runs.items()]
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": cpus}),
        param_space={"trial": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
        run_config=tune.RunConfig(storage_path=str(output), name="tune", verbose=0),
    )
    results = tuner.fit()
    seconds = time.perf_counter() - started
    ray.shutdown()
    return seconds, {result.config["trial"]["lane"]: result.metrics[ACCURACY] for result in results if ACCURACY in (result.metrics or {})}


def _alone(config: dict[str, Any]) -> None:
    alone(config["trial"])


def _nested(config: dict[str, Any]) -> None:
    nested(config["trial"])


def one_round(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run our sweep and the same trials on the other sides; return seconds, ratios and how far the values lie apart."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        seconds, runs, values = ours(Path(folder) / "ours", options)
        figures["ours"] = {"seconds": seconds, "trials_per_hour": 3600 * len(runs) / seconds}
        for side in options.sides:
            trainable, cpus = {"alone": (_alone, 1), "nested": (_nested, 0.01)}[side]
            at_once, dashboard = options.processes, side == "nested"
            theirs_s, their_values = theirs(trainable, Path(folder) / side, runs, cpus=cpus, at_once=at_once, dashboard=dashboard)
            apart = [abs(their_values[lane] - values[lane]) for lane in their_values]
            figures[side] = {"seconds": theirs_s, "trials_per_hour": 3600 * len(their_values) / theirs_s, "finished": len(their_values)}
            figures[side] |= {"ours_over_it": theirs_s / seconds, "largest_difference": max(apart, default=float("nan"))}
    for side, found in figures.items():
        print(side, {key: round(value, 3) for key, value in found.items()}, flush=True)
    return figures


def main() -> None:
    """Run all sides, in as many rounds, and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="training at once, on every side")
    parser.add_argument("--lanes", type=int, default=8, help="of each of our processes")
    parser.add_argument("--sides", nargs="+", choices=("alone", "nested"), default=["alone", "nested"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    let_ray_find_workers()
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"})
    rounds = [one_round(options) for _ in range(options.rounds)]
    for side in options.sides:
        ratios = sorted(found[side]["ours_over_it"] for found in rounds)
        print(f"ours over {side}: {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] in {len(ratios)} rounds")
    keep(options.json, rounds=rounds)


if __name__ == "__main__":
    main()
