"""The generalisation view of a sweep: gradients and distance from the pretrained model against the gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pace_tune.results.generalisation import MEASURES, Relation, measured, relations
from pace_tune.results.rank_correlation import FEWEST, Correlation
from pace_tune.results.report.drawing import INK, colours_of, draw_legend, mark, new_figure, plain_ticks
from pace_tune.results.report.parts import Picture, Section, Table
from pace_tune.results.sweep_data import Sweep
from pace_tune.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Spearman's ρ over trials with the 95 % bootstrap interval. Matched: each trial where its training loss, without noise, passes "
    "the value that three quarters of the trials pass. Partial: training loss taken out of the ranks. "
    f"Left out where it is not defined, or of fewer than {FEWEST} trials."
)
_COLUMNS = {"measure": "measure", "gap": "gap", "raw": "as they ended", "matched": "at matched training loss", "partial": "partial"}
_COLUMNS |= {"n": "trials"}


def generalisation(sweep: Sweep) -> Section:
    """Return measures against gaps, as pictures and as correlations."""
    title = "Generalisation: measures against the gap"
    gaps = [gap for gap in ("gap/loss", f"gap/{sweep.metric.rpartition('/')[2]}") if any(gap in trial.metrics for trial in sweep.trials)]
    found = relations(sweep.trials, gaps=list(dict.fromkeys(gaps)))
    if not found:
        return Section(anchor="generalisation", title=title, missing="needs two trials with measures (`measure.every_epochs` above 0)")
    picture = Picture(
        name=f"{sweep.name}-generalisation",
        title="Measures against the loss gap",
        reading="A point is a trial at its last measurement. Gap: validation minus training loss, without noise. Hollow: stopped early.",
        draw=lambda: _draw(sweep, found),
    )
    rows = [_row(relation) for relation in found]
    table = Table(
        name=f"{sweep.name}-generalisation",
        title="Rank correlation with the gap",
        columns={key: heading for key, heading in _COLUMNS.items() if any(str(row[key]) for row in rows)},
        rows=rows,
        note=NOTE,
        left=("measure", "gap"),
    )
    return Section(anchor="generalisation", title=title, lead=lead(found), parts=(picture, table))


def lead(found: Sequence[Relation]) -> str:
    """Say in words which measures go with the loss gap, and whether they still do at matched training loss."""
    sentences = []
    for relation in found:
        if relation.gap == "gap/loss" and relation.measure in ("measure/grad_norm", "measure/fp_distance"):
            raw, matched = (_said(one) for one in (relation.raw, relation.matched))
            sentences.append(f"{MEASURES[relation.measure]}: {raw}; at matched training loss: {matched}.")
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _said(found: Correlation) -> str:
    if math.isnan(found.low):
        return "too few trials to tell"
    if not found.sure:
        return "cannot tell"
    return "grows with the gap" if found.rho > 0 else "falls as the gap grows"


def _row(relation: Relation) -> dict[str, object]:
    count = f"{relation.raw.count}, {relation.matched.count} matched"
    columns = {"raw": relation.raw, "matched": relation.matched, "partial": relation.partial, "n": count}
    return {"measure": MEASURES[relation.measure], "gap": relation.gap, **columns}


def _rho(found: Correlation) -> str:
    if str(found):
        return f"ρ {found}"
    trials = counted(found.count, "trial")
    return f"{trials}, too few for ρ" if found.count < FEWEST else f"{trials}, ρ is not defined"


def _draw(sweep: Sweep, found: Sequence[Relation]) -> Figure:
    shown = [relation for relation in found if relation.gap == "gap/loss"]
    figure = new_figure(10.5, 3.0)
    row = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    colours = colours_of(sweep)
    for axes, relation in zip(row, shown, strict=True):
        for trial in sweep.trials:
            end = next(iter(measured(trial)[-1:]), None)
            if end is not None and relation.measure in end.values:
                fill = "full" if trial.ran_fully else "none"
                x, y = end.values[relation.measure], end.values["gap/loss"]
                (point,) = axes.plot([x], [y], "o", markersize=6, fillstyle=fill, color=colours.get(trial.objective, INK))
                mark(point, sweep, trial)
        axes.set(title=f"{MEASURES[relation.measure]}\n{_rho(relation.raw)}", xscale="log")
        plain_ticks(axes.xaxis)
        axes.tick_params(axis="x", which="both", labelsize=8)
    row[0].set_ylabel("gap/loss")
    draw_legend(row[0], colours, loc="best")
    return figure
