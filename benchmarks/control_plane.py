"""What a sweep costs beside training: trivial trials through Ray Tune, Optuna and MLflow, each on its real store.

    python benchmarks/control_plane.py --trials 1000
    python benchmarks/control_plane.py --trials 100 --store http://127.0.0.1:9      # a store that does not answer

Prints seconds per trial, those of the last hundred over those of the first, and how the driver's memory grows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from driver_costs import by_hundred, cpu_per_trial, finish_times, growth, keep, let_ray_find_workers, per_trial, sampled


def the_study(output: Path, options: argparse.Namespace) -> dict:
    """Return the study: a random search of two numbers, whose trials last five reports."""
    return {
        "name": "control-plane",
        "task": "digits",
        "backbone": "vit_nano_cifar10",
        "method": {"name": "lora_add", "rank": {"int": [2, 16]}},
        "objective": {"name": "pace", "sigma": {"float": [0.1, 2.0]}},
        "optim": {"lr": {"float": [1e-4, 1e-1], "log": True}, "epochs": options.reports, "warmup_epochs": 0},
        "search": {"trials": options.trials, "sampler": options.sampler, "early_stopping": {"name": "none"}},
        "resources": {"workers": 1, "lanes": options.lanes},
        "tracking": {"uri": options.store},
        "output": str(output),
    }


def main() -> None:
    """Run the trials and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--reports", type=int, default=5, help="of each trial")
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--store", help="MLflow's address; default an SQLite file")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Ray's processes look for the worker where this script lies.
    let_ray_find_workers()
    from pace_tune.search.sweep import run_sweep
    from pace_tune.study.study_config import Study

    with tempfile.TemporaryDirectory() as folder, sampled() as samples:
        started = time.time()
        result = run_sweep(Study.parse(the_study(Path(folder), options)), quiet=True, worker="trivial_worker:TrivialWorker")
        whole_s, ends = time.time() - started, finish_times(Path(folder) / "control-plane")
    part = min(100, len(ends) // 3)
    figures = {"trials": len(ends), "state": result.state, "whole_s": whole_s, **per_trial(ends, part=part)}
    figures |= {"s_by_hundred": by_hundred(ends), **cpu_per_trial(samples, ends, part=part)}
    # What the driver loads when it first needs it, MLflow above all, comes within the first trials.
    figures |= {"driver_mib_per_100_trials": growth(samples, ends), "of_the_second_half": growth(samples, ends, after=0.5)}
    figures["untracked_bytes"] = result.untracked_bytes
    for key, value in figures.items():
        print(f"{key:28} {value:.3f}" if isinstance(value, float) else f"{key:28} {value}")
    keep(options.json, figures=figures)


if __name__ == "__main__":
    main()
