"""Which settings mattered, by Optuna's importance on the study's own database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pace_tune.results.importance import Importance, importances
from pace_tune.results.report.drawing import new_figure
from pace_tune.results.report.parts import Picture, Section, Table
from pace_tune.results.sweep_data import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE = "#0072b2"


def importance(sweep: Sweep) -> Section:
    """Return the share of the variance that each setting explains."""
    found = importances(sweep)
    if not found:
        missing = "needs eight trials that ran every epoch and differ in their worth"
        return Section(anchor="importance", title="Hyperparameter importance", missing=missing)
    picture = Picture(
        name=f"{sweep.name}-importance",
        title="Share of the variance of the selection metric",
        reading="fANOVA: a forest is fitted to the trials and its variance split among the settings, within each group.",
        draw=lambda: _draw(found),
    )
    rows: list[dict[str, Any]] = [
        {"trials": one.group, "count": one.count, "setting": path, "importance": share}
        for one in found
        for path, share in one.shares.items()
    ]
    columns = {"trials": "trials", "count": "how many", "setting": "setting", "importance": "importance"}
    table = Table(name=f"{sweep.name}-importance", title="Importance", columns=columns, rows=rows, shown=0, left=("trials", "setting"))
    return Section(anchor="importance", title="Hyperparameter importance", parts=(picture, table))


def _draw(found: list[Importance]) -> Figure:
    longest = max(len(one.shares) for one in found)
    figure = new_figure(10.5 if len(found) > 1 else 6, 0.9 + 0.34 * longest)
    for axes, one in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        labels, shares = list(one.shares)[::-1], list(one.shares.values())[::-1]
        bars = axes.barh(range(len(labels)), shares, color=_BLUE, height=0.62)
        axes.bar_label(bars, fmt=" %.2f", fontsize=9)
        axes.set_yticks(range(len(labels)), labels=labels)
        axes.set(title=f"{one.group} ({one.count} trials)", xlim=(0, max(shares) * 1.2 or 1))
        axes.grid(visible=False, axis="y")
    return figure
