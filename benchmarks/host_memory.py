"""Steps on the CPU in a process that gives freed memory back against steps in one that keeps it, as a worker does.

    python benchmarks/host_memory.py --lanes 1 8 --patch 4 --batch 16

Two processes step in turn, one at a time. Printed: the median ratio of their wall times and its spread, and what each gets fresh from
the system in a step. A worker under Ray trains in a thread, to which glibc gives memory in another way: `--thread`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from sides import SmallVit
from timing import cpu_load


@dataclass(frozen=True)
class Taken:
    """What a step took."""

    seconds: float
    faults: int


def serve(pipe: Connection, case: SmallVit, lanes: int, *, keep: bool, thread: bool) -> None:
    """Take a step whenever the other end says so, until it hangs up."""

    def run() -> None:
        import torch
        from sides import ours

        from pace_tune.training.host_memory import keep_freed_memory

        torch.set_num_threads(1)
        if keep and not keep_freed_memory():
            raise SystemExit("this system's C library cannot be told to keep freed memory")
        step = ours(case, "pace", lanes=lanes)
        while pipe.recv():
            pipe.send(_measured(step))

    if thread:
        runner = threading.Thread(target=run)
        runner.start()
        runner.join()
    else:
        run()


def _measured(step: Callable[[], object]) -> Taken:
    faults, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    step()
    return Taken(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)


def compare(case: SmallVit, lanes: int, *, thread: bool, pairs: int) -> dict[str, Any]:
    """Return the ratio gives back/keeps of steps taken in turn, and the page faults of a step of each."""
    spawn = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    for keep in (False, True):
        ours, theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(theirs, case, lanes), kwargs={"keep": keep, "thread": thread}, daemon=True).start()
        theirs.close()
        ends.append(ours)

    def step(end: Connection) -> Taken:
        end.send(True)
        taken: Taken = end.recv()
        return taken

    found = [tuple(step(end) for end in ends) for _ in range(pairs + 3)][3:]  # memory settles in the first
    for end in ends:
        end.send(False)
    ratios = [back.seconds / kept.seconds for back, kept in found]
    faults = [statistics.median(side.faults for side in sides) for sides in zip(*found, strict=True)]
    return {"ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios), "faults": faults}


def main() -> None:
    """Compare for each number of lanes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--patch", type=int, default=8, help="of 32 x 32 images: 4 gives 65 tokens, 8 gives 17")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--method", default="lora_add")
    parser.add_argument("--thread", action="store_true", help="train in a thread, as under Ray")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    case = SmallVit(options.batch, options.method, "cpu", width=192, patch=options.patch)
    for lanes in options.lanes:
        row = compare(case, lanes, thread=options.thread, pairs=options.pairs)
        back, kept = row["faults"]
        print(
            f"{row['ratio']:6.2f}  [{row['lowest']:.2f}, {row['highest']:.2f}]  page faults of a step {back:,.0f} / {kept:,.0f}  "
            f"gives back / keeps, {lanes} lanes, {case.label}",
            flush=True,
        )
    print(f"wall time of one thread, load {cpu_load()}")


if __name__ == "__main__":
    main()
