"""Loaded before anything else (`-p` in pyproject.toml): the environment that every test runs in.

Tests never reach a network, and each process keeps to one thread, so that several of them fit on a small machine.
"""

import os

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}

os.environ.update(ENVIRONMENT)
