"""Claims about what training with PACE does, paired over seeds with the controls beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from pace_tune.theory.runs import Run, main_context, matched, representatives
from pace_tune.theory.statistics import Interval, at_least, mean_interval, positive
from pace_tune.theory.verdict import Verdict

Pairs = Sequence[tuple[Run, Run]]
Seeds = Mapping[str, Mapping[int, Run]]

LEAST_REDUCTION = 0.05
"""A norm or distance that falls by less is said not to fall."""
LEAST_GAIN = 0.005
"""Half a point of accuracy."""
REDUCTION_RULE = (
    "paired over seeds: ratio with 95 % Student interval of its logarithm; holds if all of it is below 1, "
    "does not hold if all of it is above 0.95, else cannot tell; at least 3 seeds"
)
GAIN_RULE = (
    "paired over seeds: difference with 95 % Student interval; holds if all of it is above 0, "
    "does not hold if all of it is below 0.005, else cannot tell; at least 3 seeds"
)
KEEP_RULE = (
    "paired over seeds: ratio with 95 % Student interval of its logarithm; holds if all of it is above 0.95, "
    "does not hold if all of it is below, else cannot tell; at least 3 seeds"
)
HEADLESS = "pace (σ_head = 0)"

NORMS = {
    "jacobian_norm": ("thm2", "the Jacobian norm ‖∂f/∂θ‖"),
    "jacobian_relative": ("thm2", "the Jacobian norm per logit norm ‖∂f/∂θ‖ / ‖f‖"),
    "grad_norm": ("thm2", "the training-loss gradient norm ‖∂L/∂θ‖"),
    "fp_distance": ("thm3", "the distance to the pretrained outputs (trained head kept)"),
    "fp_distance_relative": ("thm3", "the distance to the pretrained outputs per ‖f‖²"),
}
COMPARED = (("pace", "plain"), ("pace", "noise"), ("pace", "fpa"), ("pace", "logit_l2"), (HEADLESS, "plain"), (HEADLESS, "noise"))


def training_claims(runs: Sequence[Run]) -> list[Verdict]:
    """Rule on every claim that compares objectives; those without runs on both sides are left out."""
    chosen = representatives(main_context(runs))
    return [*_reductions(chosen), *_alignment_alone(chosen), *_gains(chosen)]


def pairs_of(chosen: Seeds, first: str, second: str) -> Pairs:
    """Return the runs of two kinds that share a seed."""
    left, right = chosen.get(first, {}), chosen.get(second, {})
    return [(left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())]


def log_ratios(pairs: Pairs, key: str, *, at_equal_loss: bool = False) -> list[float]:
    """Return log(first / second) of each pair where both are positive."""
    found = []
    for first, second in pairs:
        values = matched(first, second, key) if at_equal_loss else (first.last(key), second.last(key))
        if values is not None and min(values) > 0:
            found.append(math.log(values[0] / values[1]))
    return found


def _reductions(chosen: Seeds) -> Iterator[Verdict]:
    for first, second in COMPARED:
        pairs = pairs_of(chosen, first, second)
        for name, (theorem, words) in NORMS.items() if pairs else ():
            for equal in (False, True):
                ratios = log_ratios(pairs, f"measure/{name}", at_equal_loss=equal)
                if not ratios:
                    continue
                effect = mean_interval(ratios)
                ruling = positive(-effect, interest=-math.log(1 - LEAST_REDUCTION))
                where = " at equal training loss" if equal else " at the end of training"
                claim = f"{theorem}/{name}/{_word(first)}-{_word(second)}{'/equal_loss' if equal else ''}"
                says = f"{first} lowers {words} compared with {second}{where}"
                plot = "controls" if second not in {"plain", "noise"} or first != "pace" else "curves"
                yield Verdict.of(claim, says, effect.exp(), ruling, rule=REDUCTION_RULE, plot=plot)


def _alignment_alone(chosen: Seeds) -> Iterator[Verdict]:
    pairs = pairs_of(chosen, "fpa", "plain")
    for name in ("jacobian_norm", "jacobian_relative") if pairs else ():
        effect = mean_interval(log_ratios(pairs, f"measure/{name}"))
        ruling = at_least(effect, threshold=math.log(1 - LEAST_REDUCTION))
        says = f"aligning outputs alone (fpa) does not reduce {NORMS[name][1]} compared with plain training"
        yield Verdict.of(f"prop1/{name}/fpa-plain", says, effect.exp(), ruling, rule=KEEP_RULE, plot="curves")


def _gains(chosen: Seeds) -> Iterator[Verdict]:
    for first, second in (("pace", "plain"), ("pace", "noise"), ("pace", "fpa"), ("pace", "logit_l2"), ("noise", "plain")):
        pairs = pairs_of(chosen, first, second)
        metric = pairs[0][0].metric if pairs else ""
        says = (
            f"{first} scores higher on validation than {second}",
            f"{first} has a smaller gap between validation and training loss than {second}",
        )
        for name, words, value in ((metric, says[0], _score), ("gap", says[1], _gap)):
            yield from _gain(pairs, f"generalisation/{name}/{first}-{second}", words, value)


def _gain(pairs: Pairs, claim: str, says: str, value: Callable[[Run], float]) -> Iterator[Verdict]:
    differences = [value(first) - value(second) for first, second in pairs]
    known = [difference for difference in differences if math.isfinite(difference)]
    if known:
        effect = mean_interval(known)
        yield Verdict.of(claim, says, effect, positive(effect, interest=LEAST_GAIN), rule=GAIN_RULE, plot="controls")


def _score(run: Run) -> float:
    return run.last(f"val/{run.metric}")


def _gap(run: Run) -> float:
    return -run.last("gap/loss")


def _word(kind: str) -> str:
    return "pace_headless" if kind == HEADLESS else kind


def effect_on(chosen: Seeds, kind: str, key: str, *, against: str = "plain") -> Interval:
    """Return the ratio of a metric between two kinds, for the figures."""
    return mean_interval(log_ratios(pairs_of(chosen, kind, against), key)).exp()
