"""A sweep of a study file as a process of its own: ``python -m tests.search.run_file STUDY.yaml``."""

import sys
from pathlib import Path

from pace_tune.search.sweep import run_sweep
from pace_tune.study.study_config import Study
from tests.search.studies import FAKE

if __name__ == "__main__":
    run_sweep(Study.load(Path(sys.argv[1])), json_lines=True, worker=FAKE)
