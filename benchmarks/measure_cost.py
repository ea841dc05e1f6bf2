"""What the measures cost a run at their default epochs and samples: CPU time with them over CPU time without.

    python benchmarks/measure_cost.py
    python benchmarks/measure_cost.py --task vtab/cifar --data-root DATA --batch-size 32 --lanes 1 8

Two workers train the same lanes in turn, epoch by epoch, one of them measuring in every epoch. A pair gives the ratio of an epoch
that measures to one that does not; the first pair warms up. A run measures in few of its epochs, and how few follows from its
length, so a run's ratio is that of its epochs, weighted. Validation, reports and checkpoints are part of an epoch on both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LENGTHS = (12, 30, 100)
OBJECTIVES: dict[str, dict[str, Any]] = {"plain": {"name": "plain"}, "pace": {"name": "pace", "sigma": 1.0, "lambda": 0.5}}


def main() -> None:
    """Print a row per objective and number of lanes."""
    options = _options()
    print(f"{options.task}, CPU time of one thread, {options.pairs} pairs, load {os.getloadavg()[0]:.0f}")
    print("| objective | lanes | epoch that measures / epoch | " + " | ".join(f"run of {epochs}" for epochs in LENGTHS) + " |")
    print("|---|---|---|" + "---|" * len(LENGTHS))
    for name in options.objectives:
        for lanes in options.lanes:
            ratios = sorted(
                epoch_ratios(_setup(options), objective=OBJECTIVES[name], lanes=lanes, pairs=options.pairs, optim=_optim(options))
            )
            middle = statistics.median(ratios)
            runs = " | ".join(f"{run_ratio(middle, epochs=epochs):.3f}" for epochs in LENGTHS)
            print(f"| {name} | {lanes} | {middle:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] | {runs} |", flush=True)


def run_ratio(epoch_ratio: float, *, epochs: int) -> float:
    """Return what a run's ratio is where an epoch that measures has the given one."""
    from pace_tune.study.run_config import MeasureConfig

    config = MeasureConfig()
    measured = sum(config.due(epoch, epochs=epochs) for epoch in range(1, epochs + 1))
    return 1 + measured / epochs * (epoch_ratio - 1)


def epoch_ratios(
    setup: dict[str, Any], *, objective: dict[str, Any], lanes: int, pairs: int, optim: dict[str, Any] | None = None
) -> Iterator[float]:
    """Yield CPU time of an epoch with measures over that of one without, pair by pair."""
    run = {
        **setup,
        "method": {"name": "lora_mul_vpt_add", "rank": 4},
        "objective": objective,
        "optim": {"epochs": pairs + 2, "warmup_epochs": 0, **(optim or {})},
    }
    with tempfile.TemporaryDirectory() as folder:
        sides = [_worker(run, storage=Path(folder) / str(every), every=every, lanes=lanes) for every in (1, 0)]
        for pair in range(pairs + 1):
            measuring, silent = (_cpu_s(side) for side in sides)
            if pair:
                yield measuring / silent


def _worker(run: dict[str, Any], *, storage: Path, every: int, lanes: int) -> Any:
    from pace_tune.worker import Worker

    worker = Worker({key: run[key] for key in ("task", "backbone", "data")}, storage=storage, threads=1, device="cpu")
    for seed in range(lanes):
        worker.open(f"t{seed:04d}", {**run, "measure": {"every_epochs": every}, "seed": seed})
    return worker


def _cpu_s(worker: Any) -> float:
    started = time.process_time()
    worker.advance()
    return time.process_time() - started


def _setup(options: argparse.Namespace) -> dict[str, Any]:
    data = {"root": str(options.data_root)} if options.data_root else {}
    return {"task": {"name": options.task}, "backbone": {"name": options.backbone}, "data": data}


def _optim(options: argparse.Namespace) -> dict[str, Any]:
    return {"batch_size": options.batch_size}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--task", default="digits")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--backbone", default="vit_nano_cifar10")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
