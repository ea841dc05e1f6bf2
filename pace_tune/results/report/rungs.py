"""Whether what early stopping saw agrees with the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pace_tune.results.rank_correlation import FEWEST as SURE
from pace_tune.results.report.drawing import INK, MUTED, new_figure
from pace_tune.results.report.parts import Picture, Section, Table
from pace_tune.results.rungs import Rung, agreement, rung_epochs, rungs_of, spared_at
from pace_tune.results.sweep_data import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 3
_BLUE = "#0072b2"


def rungs(sweep: Sweep) -> Section:
    """Return how well the order at each rung agrees with the order at the end."""
    title = "Rung against final"
    if len(sweep.ranked) < FEWEST:
        return Section(anchor="rungs", title=title, missing="needs three trials that ran every epoch")
    found = rungs_of(sweep, rung_epochs(sweep))
    picture = Picture(
        name=f"{sweep.name}-rungs",
        title="Agreement of each epoch with the last",
        reading=_reading(sweep, found),
        draw=lambda: _draw(sweep, found),
    )
    rows = [
        {"epoch": rung.epoch, "alive": rung.alive, "stopped": rung.stopped, "rho": rung.agreement, "place": rung.winner_place}
        for rung in found
    ]
    columns = {"epoch": "rung, epoch", "alive": "trials there", "stopped": "stopped there", "place": "winner's place there"}
    columns |= {"rho": "ρ with final"} if any(str(rung.agreement) for rung in found) else {}
    note = "Over trials that ran every epoch: those that were stopped have no end to compare with, so ρ is of the better ones."
    table = Table(name=f"{sweep.name}-rungs", title="Rungs", columns=columns, rows=rows, note=note)
    return Section(anchor="rungs", title=title, lead=_lead(sweep, found), parts=(picture, table) if rows else (picture,))


def _reading(sweep: Sweep, found: Sequence[Rung]) -> str:
    text = f"Spearman's ρ of the values at an epoch with those at the end, over {len(sweep.ranked)} trials."
    if len(sweep.ranked) < SURE:
        text += " So few leave ρ to chance."
    if not found:
        return text
    return f"{text} Dashed: rungs of early stopping{'; bars: 95 % intervals' if any(str(rung.agreement) for rung in found) else ''}."


def _lead(sweep: Sweep, found: Sequence[Rung]) -> str:
    if not found:
        return "Every trial ran to its end."
    if spared := spared_at(sweep, found):
        return (
            f"The winner is a reference, which is seen to its end: at epoch {spared.epoch} it was in place {spared.winner_place} of "
            f"{spared.alive}, where others are stopped, as most recipes were that begin as late as this one. With more "
            "`search.early_stopping.grace_epochs`, or `search.early_stopping: none`, they can win."
        )
    worst = max((rung.winner_place for rung in found if rung.winner_place), default=None)
    if worst == 1:
        return "The winner led at every rung."
    return f"The winner was never below place {worst} at a rung." if worst else ""


def _draw(sweep: Sweep, found: Sequence[Rung]) -> Figure:
    figure = new_figure(7, 3)
    axes = figure.subplots()
    last = max(trial.epoch for trial in sweep.ranked)
    points = [(epoch, agreement(sweep, epoch).rho) for epoch in range(1, last + 1)]
    axes.plot(*zip(*points, strict=True), color=_BLUE, linewidth=1.8)
    for rung in found:
        axes.axvline(rung.epoch, color=MUTED, linestyle="--", linewidth=1)
        axes.vlines(rung.epoch, rung.agreement.low, rung.agreement.high, color=INK, linewidth=2.4)
        axes.plot([rung.epoch], [rung.agreement.rho], "o", color=INK, markersize=5)
    axes.set(xlabel="epoch", ylabel="ρ with the final order", ylim=(min(-0.1, *(value for _, value in points)), 1.05))
    return figure
