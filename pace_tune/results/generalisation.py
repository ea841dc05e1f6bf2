"""Do smaller gradients and a smaller distance from the pretrained model go with a smaller gap? Asked of a sweep's own trials.

Trials differ in how far they have fitted the training data, and whatever grows while training fits makes a correlation by
itself. So it is asked three times: as they ended, at one training loss that most of them passed, and with the training loss
taken out of the ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pace_tune.results.rank_correlation import Correlation, rank_correlation
from pace_tune.results.sweep_data import Trial

MEASURES = {
    "measure/grad_norm": "gradient norm",
    "measure/jacobian_norm": "Jacobian norm",
    "measure/fp_distance": "FP-distance",
    "measure/fp_distance_relative": "FP-distance / logits",
}
"""What is set against the gap."""
PASSED = 0.75
"""Share of the trials that pass the training loss at which they are matched."""


@dataclass(frozen=True)
class Point:
    """A trial's measurement in one epoch: its loss on training data without noise, its gaps, its measures."""

    trial: Trial
    epoch: float
    train_loss: float
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One measure against one gap.

    Args:
        measure: Its key.
        gap: The gap's key; a gap is positive where training does better.
        raw: Over the trials as they ended.
        matched: Over the trials at one training loss.
        partial: As they ended, the training loss taken out.
    """

    measure: str
    gap: str
    raw: Correlation
    matched: Correlation
    partial: Correlation


def relations(trials: Iterable[Trial], *, gaps: Sequence[str] = ("gap/loss",)) -> list[Relation]:
    """Return every measure against every gap that at least two trials have."""
    curves = [curve for trial in trials if (curve := measured(trial))]
    ends, matched = [curve[-1] for curve in curves], at_loss(curves, target_loss(curves))
    found = [_relation(measure, gap, ends, matched) for gap in gaps for measure in MEASURES]
    return [relation for relation in found if relation.raw.count > 1]


def measured(trial: Trial) -> list[Point]:
    """Return a trial's epochs with a measured gap, in order."""
    found = []
    for report in trial.reports:
        metrics = report["metrics"]
        if "gap/loss" not in metrics or "val/loss" not in metrics:
            continue
        # The gap is validation minus training loss, both without noise.
        train_loss = float(metrics["val/loss"]) - float(metrics["gap/loss"])
        if math.isfinite(train_loss):
            values = {key: float(value) for key, value in metrics.items() if key.startswith(("gap/", "measure/"))}
            found.append(Point(trial, float(report["epoch"]), train_loss, values))
    return found


def target_loss(curves: Sequence[Sequence[Point]]) -> float:
    """Return the lowest training loss that three quarters of the trials pass; NaN where nothing was measured."""
    lowest = sorted(min(point.train_loss for point in curve) for curve in curves)
    return lowest[min(len(lowest) - 1, math.ceil(PASSED * len(lowest)) - 1)] if lowest else math.nan


def at_loss(curves: Iterable[Sequence[Point]], loss: float) -> list[Point]:
    """Return each trial where its training loss first falls to a value, read between the two measurements around it.

    Trials that start below it or never reach it are left out.
    """
    found = []
    for curve in curves:
        crossing = next(((a, b) for a, b in pairwise(curve) if a.train_loss > loss >= b.train_loss), None)
        if crossing is not None:
            found.append(_between(*crossing, loss=loss))
    return found


def _between(before: Point, after: Point, *, loss: float) -> Point:
    share = (before.train_loss - loss) / (before.train_loss - after.train_loss)
    both = before.values.keys() & after.values.keys()
    values = {key: before.values[key] + share * (after.values[key] - before.values[key]) for key in both}
    return Point(before.trial, before.epoch + share * (after.epoch - before.epoch), loss, values)


def _relation(measure: str, gap: str, ends: Sequence[Point], matched: Sequence[Point]) -> Relation:
    return Relation(
        measure=measure,
        gap=gap,
        raw=_correlate(ends, measure, gap),
        matched=_correlate(matched, measure, gap),
        partial=_correlate(ends, measure, gap, partial=True),
    )


def _correlate(points: Sequence[Point], measure: str, gap: str, *, partial: bool = False) -> Correlation:
    x, y = ([point.values.get(key, math.nan) for point in points] for key in (measure, gap))
    return rank_correlation(x, y, given=[point.train_loss for point in points] if partial else None)
