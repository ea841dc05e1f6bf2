"""The first thing to read: the winner, what it beat, how sure, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pace_tune.results.cost import Cost
from pace_tune.results.sweep_data import Sweep
from pace_tune.wording import counted


def facts(sweep: Sweep, *, cost: Cost, confirmation: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return (label, large text, small text) of each tile at the top of a study."""
    tiles = [_winner(sweep), _rival(sweep)]
    tiles += [_confirmed(confirmation, winner=sweep.ranked[0].lane if sweep.ranked else "")] if confirmation else []
    return [tile for tile in (*tiles, _trials(sweep), _cost(cost)) if tile is not None]


def _winner(sweep: Sweep) -> tuple[str, str, str]:
    if not sweep.ranked:
        return ("best", "none yet", "no trial has run every epoch")
    best = sweep.ranked[0]
    settings = ", ".join(f"{axis.label} {_short(best.chosen[path])}" for path, axis in sweep.axes.items() if path in best.chosen)
    return (f"best {sweep.metric}", f"{best.value:.4f}", f"{best.lane}, {best.objective}: {settings}")


def _rival(sweep: Sweep) -> tuple[str, str, str] | None:
    """Return the best trial of another objective: what the winner is worth beside it, on one seed each."""
    rival = next((trial for trial in sweep.ranked if trial.objective != sweep.ranked[0].objective), None)
    if rival is None or rival.value is None or sweep.ranked[0].value is None:
        return None
    return (
        f"best {rival.objective}",
        f"{rival.value:.4f}",
        f"{rival.lane}; the winner is {sweep.ranked[0].value - rival.value:+.4f}, one seed each",
    )


def _confirmed(confirmation: Mapping[str, Any], *, winner: str) -> tuple[str, str, str] | None:
    comparisons: Sequence[Mapping[str, Any]] = confirmation.get("comparisons", ())
    if not comparisons:
        return None
    verdicts = ", ".join(f"{one['verdict']} {_than(one['verdict'])} {one['other']}" for one in comparisons)
    mean = confirmation["means"][comparisons[0]["winner"]]
    half = f" ± {mean['half_width']:.4f}" if mean.get("half_width") is not None else ""
    trial = confirmation.get("trial") or winner
    former = "" if trial == winner else f"of {trial}, not of the winner; "
    return (f"confirmed {confirmation['metric']}", f"{mean['mean']:.4f}{half}", f"{former}{mean['count']} seeds: {verdicts}")


def _than(verdict: str) -> str:
    return "against" if verdict == "cannot tell" else "than"


def _trials(sweep: Sweep) -> tuple[str, str, str]:
    counts = Counter(trial.state for trial in sweep.trials)
    return ("trials", str(len(sweep.trials)), ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.most_common()))


def _cost(cost: Cost) -> tuple[str, str, str] | None:
    if not cost.lane_s:
        return None
    lanes = f"{cost.total_lane_s:,.0f} lane-seconds on workers of {counted(cost.lanes_per_worker, 'lane')}"
    if cost.gpus_per_worker:
        return ("GPU-hours", f"{cost.gpu_hours:.2f}", lanes)
    return ("worker-hours", f"{cost.worker_hours:.2f}", f"{lanes}; no GPU")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
