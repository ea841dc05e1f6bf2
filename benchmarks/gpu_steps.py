"""PACE steps of real models on one GPU: the published step, ours as it is, compiled and captured, and lanes.

    python benchmarks/gpu_steps.py --published ../PACE --json gpu.json
    python benchmarks/gpu_steps.py --models vit_tiny_patch16_224 --batches 8 --lanes 1 8 16

Weights are random and so are images: neither changes what a step takes. All sides of a case run in turn, round by round, and each
ratio is a median over rounds. The published step runs as published, in float32 without TF32; ours in the precision that a worker
takes on a GPU, which is bfloat16 for what is frozen. Floating-point operations are counted on the plain form of our step.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from sides import CLASSES, SAMPLES, Case, Side, captured_side, compiled_side, ours, published_side, random_images
from torch import nn

from pace_tune.methods.site import LinearSite
from pace_tune.models.backbone import InputSpec
from pace_tune.training.data import ResidentData
from pace_tune.training.precision import set_precision

MODELS = ("vit_base_patch16_224", "vit_small_patch16_224", "vit_tiny_patch16_224", "roberta_base")
TEXT_TOKENS = 128
WARM_STEPS, SHORTEST_S = 3, 0.15
MOST_ROWS = 512
"""Rows (images times views) of a step; more lanes are cut to it. All sides of a case are in memory at once: 115 GiB with ViT-B."""


@dataclass(frozen=True)
class RealModel(Case):
    """A model at the size that people fine-tune."""

    name: str
    precision: str = "auto"

    @property
    def label(self) -> str:
        """The model and the batch in words."""
        return f"{self.name}, batch {self.batch}, {self.method}, {self.device}"

    def model(self) -> nn.Module:
        """Return the model with random weights."""
        torch.manual_seed(0)
        with torch.device(self.device):
            model = _roberta() if self.name == "roberta_base" else timm.create_model(self.name, num_classes=CLASSES, drop_path_rate=0.1)
        set_precision(model, self.precision, device=torch.device(self.device))
        return model

    def data(self) -> ResidentData:
        """Return random images, or texts that are as long as they may be."""
        half = self.precision == "bfloat16" or (self.precision == "auto" and self.device != "cpu")
        if self.name != "roberta_base":
            return random_images(224, device=self.device, dtype=torch.bfloat16 if half else torch.float32)
        tokens = torch.randint(3, 50_000, (SAMPLES, TEXT_TOKENS), device=self.device)
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        return ResidentData(inputs, torch.randint(2, (SAMPLES,), device=self.device), InputSpec(max_length=TEXT_TOKENS))


def _roberta() -> nn.Module:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    sizes = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}
    return RobertaForSequenceClassification(RobertaConfig(**sizes, num_labels=2)).eval()


@contextmanager
def plain_form() -> Iterator[None]:
    """Run every site in its plain form."""
    LinearSite.fuses = False
    try:
        yield
    finally:
        LinearSite.fuses = True


def plainly(side: Side) -> Side:
    """Return a side whose sites are in their plain form."""

    def step() -> None:
        with plain_form():
            side()

    return step


def sides_of(case: RealModel, options: argparse.Namespace) -> dict[str, tuple[int, Callable[[], Side]]]:
    """Return what to time: name -> lanes, and how to make a step."""
    found: dict[str, tuple[int, Callable[[], Side]]] = {}
    text = case.name == "roberta_base"
    if options.published and not text:
        found["published"] = 1, lambda: published_side(replace(case, precision="float32"), options.published)
    forms: dict[str, tuple[list[int], Callable[[int], Side]]] = {
        "eager": (options.lanes, lambda k: ours(case, "pace", lanes=k)),
        "compiled": ([] if text else options.compiled, lambda k: compiled_side(case, "pace", lanes=k)),
        "captured": ([] if text else options.captured, lambda k: captured_side(case, "pace", lanes=k)),
        "both": ([] if text else options.both, lambda k: compiled_side(case, "pace", lanes=k, capture=True)),
    }
    for form, (counts, make) in forms.items():
        fits = {min(k, MOST_ROWS // (2 * case.batch)) for k in counts}
        found |= {f"{form} K={k}": (k, partial(make, k)) for k in sorted(fits)}
    if options.plain:
        found["plain K=1"] = 1, lambda: plainly(ours(case, "pace", lanes=1))
    return found


def operations(case: RealModel) -> float:
    """Return the floating-point operations of one lane's step."""
    from torch.utils.flop_counter import FlopCounterMode

    step = plainly(ours(case, "pace", lanes=1))
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


@dataclass
class Timed:
    """One side of a case, with what was measured of it."""

    lanes: int
    step: Side
    steps: int
    first_s: float
    peak_gib: float
    ms: list[float]


def _timed(lanes: int, make: Callable[[], Side], device: str) -> Timed:
    """Build a side, run its first steps, and choose how many steps a round has."""
    _free(device)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step = make()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    first_s = time.perf_counter() - started
    for _ in range(WARM_STEPS):
        step()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**30
    seconds = _seconds(step, 2)
    return Timed(lanes, step, max(3, int(SHORTEST_S / seconds) + 1), first_s, peak, [])


def _seconds(step: Side, count: int) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def _free(device: str) -> None:
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


def measure(case: RealModel, options: argparse.Namespace, peak_tflops: float) -> dict[str, Any]:
    """Time all sides of a case in turn."""
    flops = operations(case)
    timed: dict[str, Timed] = {}
    failed: dict[str, str] = {}
    for name, (lanes, make) in sides_of(case, options).items():
        try:
            timed[name] = _timed(lanes, make, case.device)
        except Exception as error:  # noqa: BLE001  (what fails is told in the figures)
            failed[name] = f"{type(error).__name__}: {error}"[:300]
            traceback.print_exc(limit=4)
    for _ in range(options.rounds):
        for side in timed.values():
            side.ms.append(1000 * _seconds(side.step, side.steps) / side.lanes)
    figures = {name: _figures(side, case, flops, peak_tflops, timed) for name, side in timed.items()}
    for name, row in figures.items():
        print(f"  {name:16s}" + "".join(f" {key} {value:.4g}" for key, value in row.items() if not isinstance(value, list)), flush=True)
    return {"case": case.label, "gflop_per_lane_step": flops / 1e9, "sides": figures, "failed": failed}


def _figures(side: Timed, case: RealModel, flops: float, peak_tflops: float, others: dict[str, Timed]) -> dict[str, Any]:
    ms = statistics.median(side.ms)
    row: dict[str, Any] = {"ms_per_lane_step": ms, "lowest": min(side.ms), "highest": max(side.ms)}
    row |= {"images_per_s": 1000 * case.batch / ms, "of_peak": flops / (ms / 1000) / (peak_tflops * 1e12)}
    row |= {"peak_gib": side.peak_gib, "first_step_s": side.first_s}
    for name in ("published", "eager K=1", "both K=1"):
        if others.get(name, side) is not side:
            row[f"faster_than_{name}"] = statistics.median(a / b for a, b in zip(others[name].ms, side.ms, strict=True))
    return row


def ceilings() -> dict[str, float]:
    """Return what the card reaches on a large bf16 product, in TFLOP/s, and on a copy, in GB/s read and written."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(2**31, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    product, copy = (lambda: a @ b), (lambda: target.copy_(source))
    for call in (product, copy):
        _seconds(call, 3)
    return {
        "bf16_tflops": 2 * 8192**3 / statistics.median(_seconds(product, 5) for _ in range(5)) / 1e12,
        "copy_gb_per_s": 2 * source.numel() / statistics.median(_seconds(copy, 5) for _ in range(5)) / 1e9,
    }


def waits(case: RealModel) -> list[str]:
    """Return where a step makes the host wait for the device."""
    import warnings

    step = ours(case, "pace", lanes=2)
    step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step()
        torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(w.filename).name}:{w.lineno}: {w.message}"[:200] for w in caught]


def profile(side: Side, path: Path) -> None:
    """Write where a step's time on the device goes, kernel by kernel."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    for _ in range(WARM_STEPS):
        side()
    with profiling(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        wall_ms = 1000 * _seconds(side, 3)
    averages = found.key_averages()
    kernels = sorted(
        (e for e in averages if e.self_device_time_total > 0 and e.device_type.name == "CUDA"), key=lambda e: -e.self_device_time_total
    )
    total = sum(e.self_device_time_total for e in kernels)
    lines = [f"step {wall_ms:.2f} ms, kernels {total / 3000:.2f} ms, {sum(e.count for e in kernels) / 3:.0f} launches"]
    lines += [f"{e.self_device_time_total / 3000:8.3f} ms {e.count // 3:5d} x {e.key[:150]}" for e in kernels[:40]]
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines[:14]), flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="a checkout of the published repository; without it that side is left out")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 16, 8])
    parser.add_argument("--methods", nargs="+", default=["lora_add"])
    parser.add_argument("--lanes", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--compiled", type=int, nargs="*", default=[], help="numbers of lanes to run with compiled blocks")
    parser.add_argument("--captured", type=int, nargs="*", default=[1, 8], help="numbers of lanes to run as one CUDA graph")
    parser.add_argument("--both", type=int, nargs="*", default=[1, 8], help="numbers of lanes to run compiled and as one CUDA graph")
    parser.add_argument("--plain", action="store_true", help="the plain form too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further case after so long")
    parser.add_argument("--profile", type=Path, help="a folder for profiles of one lane and of eight")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> None:
    """Measure case by case; what was measured is written after each."""
    options = arguments()
    started = time.perf_counter()
    torch.set_num_threads(1)
    found = ceilings()
    report: dict[str, Any] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "card": torch.cuda.get_device_name(), "torch": torch.__version__}
    report |= {"command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), "ceilings": found, "cases": [], "left_out": []}
    print(report["card"], found, flush=True)
    cases = [
        RealModel(batch, method, "cuda", name=name) for method in options.methods for batch in options.batches for name in options.models
    ]
    for case in cases:
        if time.perf_counter() - started > options.seconds:
            report["left_out"].append(case.label)
            continue
        print(case.label, f"{time.perf_counter() - started:.0f} s", flush=True)
        try:
            report["cases"].append({**measure(case, options, found["bf16_tflops"]), "waits": waits(case)})
            if options.profile:
                profile(compiled_side(case, "pace", lanes=1, capture=True), options.profile / f"{case.name}_{case.batch}_{case.method}.txt")
        except Exception as error:  # noqa: BLE001  (what fails is told in the figures)
            traceback.print_exc(limit=6)
            report["cases"].append({"case": case.label, "failed": {"": f"{type(error).__name__}: {error}"[:300]}})
        _free("cuda")
        if options.json:
            options.json.write_text(json.dumps(report, indent=1))
    print("waits:", sorted({w for case in report["cases"] for w in case.get("waits", [])}))


if __name__ == "__main__":
    main()
