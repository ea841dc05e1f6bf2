"""Measures at their default add at most a tenth to a run: counted in floating-point operations, and in CPU time."""

import runpy
import statistics
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from pace_tune.study.run_config import MeasureConfig
from pace_tune.worker import Worker

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "measure_cost.py"))
OBJECTIVES, run_ratio = BENCHMARK["OBJECTIVES"], BENCHMARK["run_ratio"]
SETUP = {"task": {"name": "digits"}, "backbone": {"name": "vit_nano_cifar10"}, "data": {}}
MOST = 1.10


def test_the_share_of_epochs_that_measure_is_bounded() -> None:
    for epochs in range(6, 300):
        assert sum(MeasureConfig().due(epoch, epochs=epochs) for epoch in range(1, epochs + 1)) <= min(10, epochs / 6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_with_measures_has_a_tenth_more_operations_at_most(objective: str, tmp_path: Path) -> None:
    counts = {}
    for every in (0, 1):
        worker = Worker(SETUP, storage=tmp_path / str(every), threads=1, device="cpu")
        run = {**SETUP, "method": {"name": "lora_mul_vpt_add", "rank": 4}, "objective": OBJECTIVES[objective]}
        for seed in range(2):
            optim = {"epochs": 3, "warmup_epochs": 0}
            worker.open(f"t{seed}", {**run, "seed": seed, "optim": optim, "measure": {"every_epochs": every}})
        worker.advance()  # the pretrained side is computed once
        with FlopCounterMode(display=False) as counter:
            worker.advance()
        counts[every] = counter.get_total_flops()
    ratio = counts[1] / counts[0]
    assert ratio > 1.05  # an epoch that measures does more
    assert max(run_ratio(ratio, epochs=epochs) for epochs in (6, 12, 30, 100)) <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 8])
def test_a_run_with_measures_takes_a_tenth_more_cpu_time_at_most(lanes: int) -> None:
    ratios = BENCHMARK["epoch_ratios"](SETUP, objective=OBJECTIVES["plain"], lanes=lanes, pairs=9)
    assert run_ratio(statistics.median(ratios), epochs=30) <= MOST
