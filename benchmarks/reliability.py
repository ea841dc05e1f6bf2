"""Injects every fault into a running sweep and writes what it cost into docs/reliability.md.

python benchmarks/reliability.py                  # as root: the nodes get networks of their own
python benchmarks/reliability.py --times 1 --trials 60 -o /tmp/reliability.md
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.faults import loop  # noqa: E402  (the scripts' folder is not the repository's root)
from tests.faults.checks import assert_nothing_is_lost  # noqa: E402

INTRODUCTION = """# Reliability

What happens to a sweep when something under it breaks. The table was written by `benchmarks/reliability.py`; the same loop is a test
(`make faults`), and it fails if anything is lost.

**The scene.** A Ray head and two worker nodes, each in a network namespace of its own; the books and MLflow on a PostgreSQL, lanes
on an S3 API; {trials} trials of {epochs} epochs, two workers of three lanes. Training is replaced by curves that are a function of the run
(an epoch lasts {epoch_s:g} s); files, database, network and processes are real. Moments and victims are random.

**Nothing lost** means: the sweep ended complete; every trial is once in Optuna and in MLflow, with every point of its curve
there once, and ended once; proposals and values are those of the same sweep without faults; lanes that should break are recorded
with their reason.

**Recovery** is the time from the fault until the driver has heard of {heard} new epochs, two of every lane, that were in flight when it was
over or began after it. Without a fault that takes two seconds; the outage itself is in it where it is part of the fault. **Epochs again**
are those trained a second time, over all injections of a fault.

There is no fault of a trial's own process, nor of Ray Train's controller: neither has one. Tune waits for a trial's reports at the
dispatcher, and the controller is a thread of the driver.

"""


def row(name: str, times: int, recoveries_s: list[float], again: int) -> str:
    """Return a line of the table."""
    middle, longest = statistics.median(recoveries_s), max(recoveries_s)
    return f"| {name} | {times} | 0 | {again} | {middle:.0f} s | {longest:.0f} s |"


def table(faults: Iterable[loop.Fault], broken: Counter[str]) -> str:
    """Return the table; it is made only where nothing was lost."""
    lines = ["| fault | times | trials or epochs lost | epochs again | recovery, median | longest |", "|---|--:|--:|--:|--:|--:|"]
    lines += [row(fault.name, len(fault.recoveries_s), fault.recoveries_s, fault.epochs_again) for fault in faults if fault.recoveries_s]
    words = {"diverged": "a lane diverges", "out_of_memory": "a lane runs out of memory"}
    lines += [f"| {words[kind]} | {count} | 0 of the others | 0 | - | - |" for kind, count in sorted(broken.items())]
    return "\n".join(lines) + "\n"


def say(line: str) -> None:
    """Print a line at once."""
    print(f"{time.strftime('%X')} {line}", flush=True)


def main() -> None:
    """Run the loop and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=loop.TIMES, help="how often each fault is injected")
    parser.add_argument("--trials", type=int, default=loop.TRIALS)
    parser.add_argument("--minutes", type=float, default=math.inf, help="beyond which nothing more is injected")
    parser.add_argument("--folder", type=Path, help="for logs, kept; default a temporary one")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "reliability.md")
    options = parser.parse_args()
    # What was started is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as temporary:
        folder = options.folder or Path(temporary)
        with loop.scene(folder) as scene:
            size = {"times": options.times, "trials": options.trials, "epochs": loop.EPOCHS}
            study, faults = loop.run_loop(scene, **size, say=say, limit_s=60 * options.minutes)
            broken = assert_nothing_is_lost(study, database=scene.database.url(), quiet=folder / "quiet")
            starts = scene.starts
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.0f} over the last quarter of an hour"
    took = f"Measured on {datetime.now(UTC):%Y-%m-%d} on {machine}, in {(time.monotonic() - began) / 60:.0f} minutes; {starts} drivers."
    if any(len(fault.recoveries_s) < loop.TIMES for fault in faults.values()):
        took += f" The run was cut short: each fault is meant to be injected {loop.TIMES} times."
    introduction = INTRODUCTION.format(trials=options.trials, epochs=loop.EPOCHS, epoch_s=loop.EPOCH_S, heard=loop.HEARD_EPOCHS)
    options.out.write_text(f"{introduction}{took}\n\n{table(faults.values(), broken)}", encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
