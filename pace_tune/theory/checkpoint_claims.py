"""Claims about single models: whether the theorems' approximations describe them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from pace_tune.theory.checkpoint import RADIUS, Reading
from pace_tune.theory.runs import representatives
from pace_tune.theory.sharpness import Sharpness
from pace_tune.theory.statistics import Interval, at_least, mean_interval, positive, slope, within
from pace_tune.theory.training_claims import GAIN_RULE, pairs_of
from pace_tune.theory.verdict import Verdict

LIMIT = (0.95, 1.05)
REGIME = (0.8, 1.25)
LIMIT_RULE = (
    "95 % interval over models (over draws, where there is one); holds if all of it lies in 0.95 .. 1.05, "
    "does not hold if none of it does, else cannot tell"
)
REGIME_RULE = LIMIT_RULE.replace("0.95 .. 1.05", "0.8 .. 1.25")
BOUND_RULE = "largest ratio over models; holds if it is at most 1, does not hold if it is above"
SLOPE_RULE = (
    "least-squares slope of logarithms over models, 95 % interval; holds if all of it is above 0, "
    "does not hold if all of it is below 0.1, else cannot tell; at least 10 models"
)
CALIBRATION_RULE = (
    "paired over seeds: difference with 95 % Student interval; holds if all of it is above -0.01, does not hold if all of it is below, "
    "else cannot tell; at least 3 seeds"
)
TAYLOR_SLACK = 1.05
TAYLOR_RULE = "largest ratio over models; holds if it is at most 1.05 (the bound is exact to order ρ³), does not hold if it is above"


def checkpoint_claims(readings: Sequence[Reading], sharpness: Sequence[tuple[Sharpness, float]] = ()) -> list[Verdict]:
    """Rule on every claim about models themselves."""
    return [*_expansions(readings), *_distances(readings), *_calibration(readings), *_taylor(sharpness)]


def _expansions(readings: Sequence[Reading]) -> Iterator[Verdict]:
    small = _ratio(readings, lambda reading: reading.expansions[-1].ratio.value, lambda reading: reading.expansions[-1].ratio.error)
    t = readings[0].expansions[-1].scale
    says = f"for a small change (t = {t:g}) d_pace is its first order, 2 Σσ²a²"
    yield Verdict.of("thm2/small_change", says, small, within(small, low=LIMIT[0], high=LIMIT[1]), rule=LIMIT_RULE, plot="expansion")
    own = [reading for reading in readings if reading.run.kind.startswith("pace")] or list(readings)
    full = _ratio(own, lambda reading: reading.expansions[0].ratio.value, lambda reading: reading.expansions[0].ratio.error)
    says = "at the change and σ that were trained with, d_pace is its first order"
    yield Verdict.of("thm2/operating", says, full, within(full, low=REGIME[0], high=REGIME[1]), rule=REGIME_RULE, plot="expansion")
    parts = _ratio(readings, lambda reading: reading.expansions[0].parts.explained, lambda _: 0.0)
    says = "the distance to the pretrained outputs is Prop. 1's quadratic form, (a − b/2)², at the change that was trained"
    yield Verdict.of("prop1/operating", says, parts, within(parts, low=REGIME[0], high=REGIME[1]), rule=REGIME_RULE, plot="expansion")


def _distances(readings: Sequence[Reading]) -> Iterator[Verdict]:
    highest = max(reading.expansions[0].parts.distance / reading.bound for reading in readings)
    effect = Interval(highest, highest, highest, len(readings))
    says = "the distance to the pretrained outputs stays below Thm 3's bound by d_pace (a bound so wide that this says little)"
    yield Verdict.of("thm3/bound", says, effect, at_least(-effect, threshold=-1.0), rule=BOUND_RULE, plot="distance")
    rows = [(r.expansions[0].parts, r.expansions[0].d_pace.value / r.sigma**2) for r in readings]
    rows = [(parts, value) for parts, value in rows if min(parts.distance, parts.kappa, value) > 0]
    distance = [math.log(parts.distance) for parts, _ in rows]
    by_noise, by_alignment = [math.log(value) for _, value in rows], [math.log(parts.kappa) for parts, _ in rows]
    for claim, columns, words in (
        ("thm3/slope", [by_noise], ""),
        ("thm3/slope_given_alignment", [by_noise, by_alignment], " where the alignment κ is equal"),
    ):
        effect = slope(distance, columns)
        says = f"models of smaller d_pace / σ² lie closer to the pretrained outputs{words}"
        yield Verdict.of(claim, says, effect, positive(effect, interest=0.1), rule=SLOPE_RULE, plot="distance")


def _calibration(readings: Sequence[Reading]) -> Iterator[Verdict]:
    by_folder = {reading.run.folder: reading for reading in readings if math.isfinite(reading.calibration_error)}
    pairs = pairs_of(representatives(reading.run for reading in by_folder.values()), "pace", "plain")
    rows = [(by_folder[first.folder], by_folder[second.folder]) for first, second in pairs]
    if not rows:
        return
    error = mean_interval([second.calibration_error - first.calibration_error for first, second in rows])
    says = "pace's probabilities are calibrated at least as well as plain's"
    yield Verdict.of("control/calibration", says, error, at_least(error, threshold=-0.01), rule=CALIBRATION_RULE, plot="calibration")
    loss = mean_interval([second.tempered_loss - first.tempered_loss for first, second in rows])
    says = "pace has a smaller validation loss than plain where both logits are divided by a fitted temperature"
    yield Verdict.of("control/tempered_loss", says, loss, positive(loss, interest=0.005), rule=GAIN_RULE, plot="calibration")


def _taylor(found: Sequence[tuple[Sharpness, float]]) -> Iterator[Verdict]:
    if not found:
        return
    highest = max((reached - point.loss) / max(point.bound(RADIUS) - point.loss, 1e-30) for point, reached in found)
    effect = Interval(highest, highest, highest, len(found))
    says = (
        f"within ρ = {RADIUS:g} the training loss rises by at most ρ‖∇L‖ + ρ²λ_max/2 (Thm 1 without its complexity term, which is vacuous)"
    )
    yield Verdict.of("thm1/taylor", says, effect, at_least(-effect, threshold=-TAYLOR_SLACK), rule=TAYLOR_RULE, plot="sharpness")


def _ratio(readings: Sequence[Reading], value: Callable[[Reading], float], error: Callable[[Reading], float]) -> Interval:
    """Return the geometric mean of a ratio over models; of a single model, with the interval of its own draws."""
    if len(readings) == 1:
        center, half = value(readings[0]), 1.96 * error(readings[0])
        return Interval(center, center - half, center + half, 1)
    found = [value(reading) for reading in readings]
    return mean_interval([math.log(max(ratio, 1e-30)) for ratio in found]).exp()
