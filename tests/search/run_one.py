"""A sweep as a process of its own, to be killed: ``python -m tests.search.run_one OUTPUT TRIALS EPOCHS STOPPING``."""

import sys
from pathlib import Path

from pace_tune.search.sweep import run_sweep
from tests.search.studies import FAKE, study


def the_study(output: Path, *, trials: int, epochs: int, stopping: str):
    return study(output, trials=trials, epochs=epochs, search={"early_stopping": {"name": stopping}}, resources={"lanes": 4})


if __name__ == "__main__":
    output, trials, epochs, stopping = sys.argv[1:]
    result = run_sweep(the_study(Path(output), trials=int(trials), epochs=int(epochs), stopping=stopping), json_lines=True, worker=FAKE)
    print(f'{{"event": "result", "state": "{result.state}", "untracked": {result.untracked_bytes}}}')
