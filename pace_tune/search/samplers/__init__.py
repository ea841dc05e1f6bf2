"""Search algorithms, one file each; their registry is `pace_tune.registry.samplers`."""

from __future__ import annotations

from pace_tune.registry import samplers

__all__ = ["samplers"]
