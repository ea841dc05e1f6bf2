"""What a sweep ran on, for the record."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("pace-tune", "torch", "ray", "optuna", "mlflow", "timm", "transformers", "peft", "numpy", "safetensors")


def environment() -> dict[str, Any]:
    """Return versions and machine as plain values; no user name, no paths, no variables."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
