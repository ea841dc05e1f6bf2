"""Time and memory of PACE steps: one lane against the published modules, lanes against one after another.

    python benchmarks/step_time.py --published ../PACE            # a checkout of the published repository
    python benchmarks/step_time.py --only lanes --lanes 1 2 4 8 16 --json lanes.json
    python benchmarks/step_time.py --only compiled --lanes 1 4

Ratios are medians over pairs that run in turn in one process, so that a busy machine hits both sides alike. On the CPU a side's
time is CPU time of one thread (`--clock wall` for the wall clock); on a GPU it is wall time between synchronisations.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sides import Case, Side, SmallVit, by_mkl_side, compiled_side, ours, published_agrees, published_side, sequential_side
from timing import Clock, cpu_load, memory_ratio

OBJECTIVES = ("pace", "pace_detached", "pace_fast")
TARGETS = {"pace": 1.15, "pace_detached": 1.4, "pace_fast": 1.9}


def compare(first: Side, second: Side, *, clock: Clock, pairs: int) -> dict[str, float]:
    """Return the median ratio first/second of steps taken in turn, and both medians in milliseconds."""
    times = [(clock.of(first), clock.of(second)) for _ in range(pairs + 1)][1:]  # the first pair warms up
    return {
        "ratio": statistics.median(a / b for a, b in times),
        "lowest": min(a / b for a, b in times),
        "highest": max(a / b for a, b in times),
        "first_ms": 1000 * statistics.median(a for a, _ in times),
        "second_ms": 1000 * statistics.median(b for _, b in times),
    }


def against_published(case: Case, options: argparse.Namespace, clock: Clock) -> list[dict]:
    """One lane of each variant against a step of the published `pace`."""
    rows = []
    for method in ("lora_add", "lora_mul_vpt_add"):
        this = case.with_method(method)
        published_agrees(this, options.published)
        for objective in OBJECTIVES:
            theirs, mine = published_side(this, options.published), ours(this, objective, lanes=1)
            row = compare(theirs, mine, clock=clock, pairs=options.pairs)
            rows.append({"what": f"published pace / one lane of {objective}, {method}", "target": TARGETS[objective], **row})
            show(rows[-1])
    return rows


def lanes(case: Case, options: argparse.Namespace, clock: Clock) -> list[dict]:
    """K lanes in one step against the same K runs one after another."""
    return each_count(case, options, clock, sequential_side, what="{0} runs one after another / {0} lanes")


def frozen_products(case: Case, options: argparse.Namespace, clock: Clock) -> list[dict]:
    """Steps whose products with frozen weights are PyTorch's own choice against steps as they are."""
    return each_count(case, options, clock, by_mkl_side, what="products by MKL / as they are, {0} lanes")


def each_count(case: Case, options: argparse.Namespace, clock: Clock, other: Callable[..., Side], *, what: str) -> list[dict]:
    """Steps of another side against ours, for each number of lanes."""
    rows = []
    for count in options.lanes:
        row = compare(other(case, "pace", lanes=count), ours(case, "pace", lanes=count), clock=clock, pairs=options.pairs)
        rows.append({"what": f"{what.format(count)}, {case.label}", **row})
        show(rows[-1])
    return rows


def compiled(case: Case, options: argparse.Namespace, clock: Clock) -> list[dict]:
    """Steps with blocks as they are against steps with compiled ones (`resources.compile`), and what compiling takes before."""
    rows = []
    for count in options.lanes:
        eager, faster = ours(case, "pace", lanes=count), compiled_side(case, "pace", lanes=count)
        started = time.perf_counter()
        faster()
        first_s = time.perf_counter() - started
        row = compare(eager, faster, clock=clock, pairs=options.pairs)
        rows.append({"what": f"eager / compiled, {count} lanes, {case.label}; first step {first_s:.0f} s", "first_step_s": first_s, **row})
        show(rows[-1])
    return rows


def memory(case: Case, options: argparse.Namespace) -> list[dict]:
    """Peak memory of lanes in one process against one process per run."""
    rows = [{"what": f"peak memory, {k} lanes / {k} processes, {case.label}", **memory_ratio(case, k)} for k in options.lanes if k > 1]
    for row in rows:
        show(row)
    return rows


def show(row: dict) -> None:
    """Print a line of the table."""
    spread = f"  [{row['lowest']:.2f}, {row['highest']:.2f}]" if "lowest" in row else ""
    target = f"  (target {row['target']})" if "target" in row else ""
    times = f"  {row['first_ms']:.1f} / {row['second_ms']:.1f} ms" if "first_ms" in row else ""
    print(f"{row['ratio']:6.2f}{spread}{times}  {row['what']}{target}", flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="a checkout of the published repository; without it that part is left out")
    parser.add_argument("--only", choices=("published", "lanes", "memory", "products", "compiled"), help="one part of it")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--width", type=int, default=192, help="of the ViT; 192 is ViT-Ti, 12 is bound by dispatch")
    parser.add_argument("--patch", type=int, default=4, help="of 32 x 32 images: 4 gives 65 tokens, 8 gives 17")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--method", default="lora_add", help="of the lanes part")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--device", default=None, help="cpu or cuda; default: a GPU if there is one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> None:
    """Run the parts that were asked for."""
    options = arguments()
    clock = Clock.on(options.device, kind=options.clock)
    case = SmallVit(options.batch, options.method, clock.device, width=options.width, patch=options.patch)
    parts: dict[str, Callable[[], list[dict]]] = {
        "published": lambda: against_published(case, options, clock) if options.published else [],
        "lanes": lambda: lanes(case, options, clock),
        "memory": lambda: memory(case, options),
        "products": lambda: frozen_products(case, options, clock),
        "compiled": lambda: compiled(case, options, clock),
    }
    # Compiling takes minutes on a CPU: only where it is asked for.
    found = {name: part() for name, part in parts.items() if options.only == name or (options.only is None and name != "compiled")}
    report = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": platform.processor(), "load": cpu_load(), "clock": clock.label}
    report |= {"command": " ".join(sys.argv), "case": case.label, "figures": found}
    print(f"clock {clock.label}, load {report['load']}, {case.label}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
