"""How each trial learned, and where early stopping ended it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pace_tune.results.report.drawing import colours_of, draw_legend, mark, new_figure, plain_ticks
from pace_tune.results.report.parts import Picture, Section
from pace_tune.results.sweep_data import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "train/task_loss": ("training loss (with noise)", False),
    "measure/grad_norm": ("gradient norm", True),
    "measure/fp_distance": ("FP-distance", True),
}
"""Beside the selection metric: title, and whether on a logarithmic scale."""


def learning_curves(sweep: Sweep) -> Section:
    """Return the learning curves of a sweep."""
    if not any(trial.reports for trial in sweep.trials):
        return Section(anchor="curves", title="Learning curves", missing="no trial has reported an epoch yet")
    picture = Picture(
        name=f"{sweep.name}-curves",
        title="Learning curves",
        reading="A line is a trial in its objective's colour; the thick one with a star won. A cross: stopped early or broken. "
        "Points: measured in these epochs only.",
        draw=lambda: _draw(sweep),
    )
    stopped = sum(trial.state == "pruned" for trial in sweep.trials)
    lead = f"{stopped} of {len(sweep.trials)} trials were stopped early." if stopped else "No trial was stopped early."
    return Section(anchor="curves", title="Learning curves", lead=lead, parts=(picture,))


def _draw(sweep: Sweep) -> Figure:
    from matplotlib.ticker import MaxNLocator

    panels = {sweep.metric: (sweep.metric, False)}
    panels |= {key: panel for key, panel in PANELS.items() if any(key in trial.metrics for trial in sweep.trials)}
    columns = 2 if len(panels) > 1 else 1
    figure = new_figure(10.5, 3.1 * math.ceil(len(panels) / columns))
    grid = figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False).flat
    last = max(trial.epoch for trial in sweep.trials)
    for axes, (metric, (title, log)) in zip(grid, panels.items(), strict=False):
        _panel(axes, sweep, metric)
        # Measures are of few epochs, of one perhaps: every panel has the whole run for its axis.
        axes.set(title=title, xlabel="epoch", yscale="log" if log else "linear", xlim=(1 - 0.03 * last, 1.03 * last))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log:
            plain_ticks(axes.yaxis)
    for axes in list(grid)[len(panels) :]:
        axes.set_visible(False)
    draw_legend(figure.axes[0], colours_of(sweep), loc="best")
    return figure


def _panel(axes: Axes, sweep: Sweep, metric: str) -> None:
    colours, best = colours_of(sweep), sweep.ranked[0] if sweep.ranked else None
    for trial in sorted(sweep.trials, key=lambda one: one is best):
        points = [(report["epoch"], report["metrics"][metric]) for report in trial.reports if metric in report["metrics"]]
        points = [(epoch, value) for epoch, value in points if math.isfinite(value) and (value > 0 or not metric.startswith("measure/"))]
        if points:
            _line(axes, sweep, trial, points=points, colour=colours[trial.objective], won=trial is best)


def _line(axes: Axes, sweep: Sweep, trial: Trial, *, points: list[tuple[int, float]], colour: str, won: bool) -> None:
    epochs, values = zip(*points, strict=True)
    # Between measurements nobody looked: points, and a thin line only to tell which are of one trial.
    sparse = len(epochs) <= 1 or epochs[-1] - epochs[0] >= len(epochs)
    width, marker, style = (0.8, "o", ":") if sparse else (2.6 if won else 1.1, "", "-")
    (line,) = axes.plot(epochs, values, color=colour, linewidth=width, alpha=1.0 if won else 0.6, zorder=4 if won else 2)
    line.set(marker=marker, markersize=4, linestyle=style)
    mark(line, sweep, trial)
    stopped = not trial.ran_fully and trial.state not in ("running", "waiting")
    if stopped or won:
        shape, size = ("*", 12) if won else ("x", 6)
        (end,) = axes.plot(epochs[-1:], values[-1:], marker=shape, markersize=size, color=colour, linestyle="", zorder=5)
        mark(end, sweep, trial)
