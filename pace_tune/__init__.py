"""pace-tune: find the best fine-tuning recipe for a pretrained transformer on small data, and see why it generalises.

Importing this package loads neither torch nor ray nor mlflow; each name below loads what it needs when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pace_tune.methods.adapted import Adapted, adapt, merge, remove
    from pace_tune.pace.fpa import Fpa
    from pace_tune.pace.noise_only import Noise
    from pace_tune.pace.objective import Objective, Terms
    from pace_tune.pace.pace import Pace
    from pace_tune.pace.pace_detached import PaceDetached
    from pace_tune.pace.pace_fast import PaceFast
    from pace_tune.pace.pace_lazy import PaceLazy
    from pace_tune.pace.plain import Plain

__version__ = "0.1.0"

_WHERE = {
    "Adapted": "pace_tune.methods.adapted",
    "adapt": "pace_tune.methods.adapted",
    "merge": "pace_tune.methods.adapted",
    "remove": "pace_tune.methods.adapted",
    "Fpa": "pace_tune.pace.fpa",
    "Noise": "pace_tune.pace.noise_only",
    "Objective": "pace_tune.pace.objective",
    "Pace": "pace_tune.pace.pace",
    "PaceDetached": "pace_tune.pace.pace_detached",
    "PaceFast": "pace_tune.pace.pace_fast",
    "PaceLazy": "pace_tune.pace.pace_lazy",
    "Plain": "pace_tune.pace.plain",
    "Terms": "pace_tune.pace.objective",
}

__all__ = [
    "Adapted",
    "Fpa",
    "Noise",
    "Objective",
    "Pace",
    "PaceDetached",
    "PaceFast",
    "PaceLazy",
    "Plain",
    "Terms",
    "__version__",
    "adapt",
    "merge",
    "remove",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'pace_tune' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
