from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.results.planned_sweeps import Planned, write_sweep


@pytest.fixture
def sweep_in(tmp_path: Path) -> Callable[..., Path]:
    """Write a sweep of planned trials and return its folder; its parent is the output folder."""

    def write(*trials: Planned, **options: Any) -> Path:
        return write_sweep(tmp_path, trials, **options)

    return write
