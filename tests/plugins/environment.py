"""Loaded before anything else (`-p` in pyproject.toml): the environment that every test runs in.

Tests never reach a network, and each process keeps to one thread, so that several of them fit on a small machine.
"""

import os
from pathlib import Path

import pytest

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
# Data sets too large for the repository: named by the variable, or lying beside the checkout.
DATA_VARIABLE = "PACE_TUNE_SHARED_DATA"
DATA_BESIDE = Path(__file__).parents[3] / "shared" / "data"

os.environ.update(ENVIRONMENT)
if DATA_BESIDE.is_dir():
    os.environ.setdefault(DATA_VARIABLE, str(DATA_BESIDE))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared_data") and not os.environ.get(DATA_VARIABLE):
        pytest.skip(f"{DATA_VARIABLE} names no data folder")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the development data sets; ask for it only under the marker `shared_data`."""
    return Path(os.environ[DATA_VARIABLE])
