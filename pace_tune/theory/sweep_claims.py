"""Claims about many runs: how norms move with λ, and what goes along with the generalisation gap."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

from scipy import stats

from pace_tune.theory.runs import Run, by_kind, main_context, main_problem
from pace_tune.theory.statistics import Interval, Ruling, joint_intervals, mean_interval, positive, rank_correlation
from pace_tune.theory.training_claims import log_ratios
from pace_tune.theory.verdict import Verdict

NORMS = {"jacobian_norm": "Jacobian norm", "jacobian_relative": "Jacobian norm per logit norm"}
FALLS = -0.8
LEAST_RISE = 0.05
LEAST_CORRELATION = 0.3
MONOTONE_RULE = (
    "Spearman's correlation of λ and the norm within each seed, mean with 95 % Student interval over seeds; holds if all of it is "
    "below -0.8, does not hold if all of it is above, else cannot tell; at least 4 values of λ and 3 seeds"
)
RISE_RULE = (
    "paired with plain over seeds at every λ, 95 % intervals of log ratios jointly (Bonferroni, one variance); "
    "holds if some interval is above 0, does not hold if all are below log 1.05, else cannot tell"
)
CORRELATION_RULE = (
    "Spearman's correlation over runs (partial where something is held equal), Fisher interval at 95 %; holds if all of it is above 0, "
    "does not hold if all of it is below 0.3, else cannot tell; at least 10 runs"
)
GIVEN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "": ("", ()),
    "/equal_loss": (" among runs of equal training loss", ("clean/loss",)),
    "/equal_loss_and_logits": (" among runs of equal training loss and logit norm", ("clean/loss", "measure/logit_norm")),
}
MEASURES = {"grad_norm": "gradient norm", "jacobian_norm": "Jacobian norm", "fp_distance": "distance to the pretrained outputs"}


def sweep_claims(runs: Sequence[Run]) -> list[Verdict]:
    """Rule on every claim that needs more than one setting of an objective."""
    return [*_lambda_claims(main_context(runs)), *generalisation(main_problem(runs))]


def lambda_sweep(runs: Sequence[Run], kind: str) -> dict[float, dict[int, Run]]:
    """Return λ -> seed -> run of the largest set that differs in nothing else; empty below 4 values of λ."""
    sets: dict[str, dict[float, dict[int, Run]]] = {}
    for run in by_kind(runs).get(kind, ()):
        if "lambda" in run.objective:
            rest = json.dumps({**run.objective, "lambda": None}, sort_keys=True)
            sets.setdefault(rest, {}).setdefault(float(run.objective["lambda"]), {})[run.seed] = run
    largest = max(sets.values(), key=len, default={})
    return dict(sorted(largest.items())) if len(largest) >= 4 else {}


def _lambda_claims(runs: Sequence[Run]) -> Iterator[Verdict]:
    for name, words in NORMS.items():
        key = f"measure/{name}"
        for kind in ("pace", "fpa"):
            sweep = lambda_sweep(runs, kind)
            if sweep:
                effect = mean_interval(_trends(sweep, key)).clipped(1.0)
                says = f"under {kind} the {words} falls steadily with λ"
                yield Verdict.of(f"fig5/{name}/{kind}_falls", says, effect, _falls(effect), rule=MONOTONE_RULE, plot="lambda_sweep")
        plain = {run.seed: run for run in by_kind(runs).get("plain", ())}
        rise = _largest_rise(lambda_sweep(runs, "fpa"), plain, key)
        if rise is not None:
            says = f"under fpa the {words} exceeds plain training's at some λ"
            yield Verdict.of(f"fig5/{name}/fpa_exceeds_plain", says, rise[0], rise[1], rule=RISE_RULE, plot="lambda_sweep")


def _falls(effect: Interval) -> Ruling:
    if effect.open:
        return "cannot tell"
    return "holds" if effect.high < FALLS else "does not hold" if effect.low > FALLS else "cannot tell"


def _trends(sweep: Mapping[float, Mapping[int, Run]], key: str) -> list[float]:
    seeds = set.intersection(*(set(group) for group in sweep.values()))
    values = [[group[seed].last(key) for group in sweep.values()] for seed in sorted(seeds)]
    return [float(stats.spearmanr(list(sweep), row).statistic) for row in values if all(map(math.isfinite, row))]


def _largest_rise(sweep: Mapping[float, Mapping[int, Run]], plain: Mapping[int, Run], key: str) -> tuple[Interval, Ruling] | None:
    pairs = [[(group[seed], plain[seed]) for seed in sorted(group.keys() & plain.keys())] for group in sweep.values()]
    effects = joint_intervals([log_ratios(rows, key) for rows in pairs if rows])
    if not effects:
        return None
    highest = max(effects, key=lambda effect: effect.low if not effect.open else effect.value)
    if any(effect.open for effect in effects):
        return highest.exp(), "cannot tell"
    if all(effect.high < math.log(1 + LEAST_RISE) for effect in effects):
        return highest.exp(), "does not hold"
    return highest.exp(), "holds" if highest.low > 0 else "cannot tell"


def generalisation(runs: Sequence[Run]) -> list[Verdict]:
    """Rule on "a smaller norm goes with a smaller generalisation gap" over the runs of a study, raw and with other things equal.

    The gap is validation loss minus training loss without noise (`gap/loss`).
    """
    found = []
    for name, words in MEASURES.items():
        for suffix, (where, given) in GIVEN.items():
            effect = gap_correlation(runs, f"measure/{name}", given=given)
            ruling = positive(effect, interest=LEAST_CORRELATION)
            says = f"a smaller {words} goes with a smaller generalisation gap{where}"
            found.append(Verdict.of(f"thm1/{name}{suffix}", says, effect, ruling, rule=CORRELATION_RULE, plot="generalisation"))
    return found


def gap_correlation(runs: Sequence[Run], key: str, *, given: Sequence[str] = ()) -> Interval:
    """Return the rank correlation of a metric with the generalisation gap at the end of training."""
    rows = [[run.last(column) for column in (key, "gap/loss", *given)] for run in runs]
    rows = [row for row in rows if all(map(math.isfinite, row))]
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], *([] for _ in given)]
    return rank_correlation(columns[0], columns[1], given=columns[2:])
