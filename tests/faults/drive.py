"""A sweep as a process of its own, to be killed: ``python -m tests.faults.drive STUDY.yaml``."""

import sys
from pathlib import Path

from pace_tune.search.sweep import run_sweep
from pace_tune.study.study_config import Study

if __name__ == "__main__":
    result = run_sweep(Study.load(Path(sys.argv[1])), json_lines=True, worker="tests.faults.curve_worker:CurveWorker")
    print(f'{{"event": "result", "state": "{result.state}", "untracked": {result.untracked_bytes}}}', flush=True)
