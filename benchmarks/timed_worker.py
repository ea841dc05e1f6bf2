"""The training worker, with a note of how long each epoch took."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pace_tune.worker import Worker


class TimedWorker(Worker):
    """`pace_tune.worker.Worker` that appends the wall and CPU seconds of each epoch, and how many lanes were in it, to a file."""

    def advance(self) -> list[dict[str, Any]]:
        """Train an epoch."""
        wall, cpu = time.perf_counter(), time.process_time()
        reports = super().advance()
        line = f"{time.perf_counter() - wall} {time.process_time() - cpu} {len(reports)}\n"
        with Path(os.environ["TIMED_EPOCHS"]).open("a", encoding="utf-8") as file:
            file.write(line)
        return reports
