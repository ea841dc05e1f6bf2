"""Which settings go with which worth: parallel coordinates, slices, and the map over sigma and lambda."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pace_tune.results.axes import Axis
from pace_tune.results.report.drawing import INK, MUTED, colours_of, draw_legend, mark, new_figure, plain_ticks
from pace_tune.results.report.parts import Picture, Section
from pace_tune.results.sweep_data import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SLICES = 8
SIGMA, LAMBDA = "objective.sigma", "objective.lambda"


def scored(sweep: Sweep) -> list[Trial]:
    """Return the trials with a finite value, worst first, so that the best are drawn over them."""
    found = [trial for trial in sweep.trials if trial.value is not None and math.isfinite(trial.value)]
    return sorted(found, key=lambda trial: (trial.ran_fully, _worth(trial, sweep)))


def parallel_coordinates(sweep: Sweep) -> Section:
    """Return every trial as a line over what was searched."""
    if len(scored(sweep)) < 2 or not sweep.axes:
        return Section(anchor="parallel", title="Parallel coordinates", missing="needs two trials with a value")
    picture = Picture(
        name=f"{sweep.name}-parallel",
        title="Parallel coordinates",
        reading="A line is a trial that ran every epoch: what was chosen, and what came of it. Yellow is best; the thick one won.",
        draw=lambda: _draw_parallel(sweep),
    )
    return Section(anchor="parallel", title="Parallel coordinates", parts=(picture,))


def slices(sweep: Sweep) -> Section:
    """Return the worth over each searched setting by itself."""
    if len(scored(sweep)) < 2 or not sweep.axes:
        return Section(anchor="slices", title="Slices", missing="needs two trials with a value")
    picture = Picture(
        name=f"{sweep.name}-slices",
        title=f"{sweep.metric} over each setting",
        reading="A point is a trial; hollow ones were stopped early and show the value that they were judged by.",
        draw=lambda: _draw_slices(sweep),
    )
    return Section(anchor="slices", title="Slices", parts=(picture,))


def sigma_lambda(sweep: Sweep) -> Section:
    """Return the worth over noise and consistency (the paper's Fig. 7)."""
    anchor, title = "sigma-lambda", "σ–λ map"
    if not {SIGMA, LAMBDA} <= set(sweep.axes):
        return Section(anchor=anchor, title=title, missing="the study searches `objective.sigma` and `objective.lambda` not both")
    if not _mapped(sweep):
        return Section(anchor=anchor, title=title, missing="no trial with σ and λ has a value yet")
    picture = Picture(
        name=f"{sweep.name}-sigma-lambda",
        title=f"{sweep.metric} over σ and λ",
        reading="A point is a trial with noise and consistency, the ring the best. Crosses were stopped early. Other settings differ too.",
        draw=lambda: _draw_map(sweep),
    )
    return Section(anchor=anchor, title=title, parts=(picture,))


def _worth(trial: Trial, sweep: Sweep) -> float:
    return (trial.value or 0.0) * (1 if sweep.higher_is_better else -1)


def _draw_parallel(sweep: Sweep) -> Figure:
    trials = [trial for trial in scored(sweep) if trial.ran_fully] or scored(sweep)
    axes_of = list(sweep.axes.values())
    low, high = (pick(trial.value or 0.0 for trial in trials) for pick in (min, max))
    figure = new_figure(10.5, 3.8)
    axes = figure.subplots()
    end = Axis(sweep.metric, low, high)
    for trial in trials:
        _draw_path(axes, sweep, trial, (*axes_of, end))
    for x, axis in enumerate((*axes_of, end)):
        axes.axvline(x, color=INK, linewidth=1)
        for y, text in axis.ticks():
            axes.text(x + 0.03, y, text, fontsize=8.5, va="center", zorder=6)
    labels = [*(axis.label for axis in axes_of), sweep.metric]
    axes.set_xticks(range(len(labels)), labels=labels, fontweight="bold")
    axes.set(yticks=[], xlim=(-0.05, len(labels) - 0.6), ylim=(-0.06, 1.06))
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _draw_path(axes: Axes, sweep: Sweep, trial: Trial, columns: Sequence[Axis]) -> None:
    import matplotlib as mpl

    *settings, end = columns
    points = [(x, axis.place(trial.chosen[axis.path])) for x, axis in enumerate(settings) if axis.path in trial.chosen]
    worth = end.place(trial.value)
    points.append((len(settings), worth))
    good = worth if sweep.higher_is_better else 1 - worth
    won = bool(sweep.ranked) and trial is sweep.ranked[0]
    xs, ys = zip(*points, strict=True)
    (line,) = axes.plot(
        xs, ys, color=mpl.colormaps["viridis"](0.05 + 0.9 * good), linewidth=3 if won else 1.3, alpha=1 if won else 0.7, zorder=3 + good
    )
    mark(line, sweep, trial)


def _draw_slices(sweep: Sweep) -> Figure:
    shown = list(sweep.axes.values())[:MOST_SLICES]
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(10.5, 2.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, axis in zip(grid.flat, shown, strict=False):
        for trial in scored(sweep):
            if axis.path in trial.chosen:
                _draw_point(axes, sweep, trial, x=axis.number(trial.chosen[axis.path]))
        axes.set(title=axis.label, xscale="log" if axis.log else "linear")
        if axis.log:
            plain_ticks(axes.xaxis)
        if axis.choices:
            axes.set_xticks(
                range(len(axis.choices)), labels=[str(choice) for choice in axis.choices], rotation=20 if len(axis.choices) > 3 else 0
            )
            axes.set_xlim(-0.5, len(axis.choices) - 0.5)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(sweep.metric)
    draw_legend(grid[0, 0], colours_of(sweep), loc="best")
    return figure


def _draw_point(axes: Axes, sweep: Sweep, trial: Trial, *, x: float) -> None:
    colour = colours_of(sweep).get(trial.objective, INK)
    (point,) = axes.plot(
        [x], [trial.value or 0.0], marker="o", markersize=6, color=colour, fillstyle="full" if trial.ran_fully else "none", linestyle=""
    )
    mark(point, sweep, trial)


def _mapped(sweep: Sweep) -> list[Trial]:
    return [trial for trial in scored(sweep) if SIGMA in trial.chosen and LAMBDA in trial.chosen]


def _draw_map(sweep: Sweep) -> Figure:
    import matplotlib as mpl

    trials = _mapped(sweep)
    # Those that were stopped early would stretch the colours until the others look the same.
    values = [trial.value or 0.0 for trial in trials if trial.ran_fully] or [trial.value or 0.0 for trial in trials]
    low, high = min(values), max(values)
    # A value by itself has the colour of the best.
    alone = (low - 1, high) if sweep.higher_is_better else (low, high + 1)
    norm = mpl.colors.Normalize(*(low, high) if high > low else alone)
    colours: Any = mpl.colormaps["viridis" if sweep.higher_is_better else "viridis_r"]
    figure = new_figure(6.6, 4.6)
    axes = figure.subplots()
    for trial in trials:
        shape, size, colour = ("o", 13, colours(norm(trial.value or 0.0))) if trial.ran_fully else ("x", 7, MUTED)
        x, y = float(trial.chosen[SIGMA]), float(trial.chosen[LAMBDA])
        (point,) = axes.plot([x], [y], marker=shape, markersize=size, color=colour, linestyle="")
        mark(point, sweep, trial)
    best = trials[-1]
    axes.plot([best.chosen[SIGMA]], [best.chosen[LAMBDA]], marker="o", markersize=19, fillstyle="none", color=INK, linestyle="")
    sigma, lambda_ = sweep.axes[SIGMA], sweep.axes[LAMBDA]
    axes.set(xlabel="σ", ylabel="λ", xscale="log" if sigma.log else "linear", yscale="log" if lambda_.log else "linear")
    axes.margins(0.08)
    for axis, searched in ((axes.xaxis, sigma), (axes.yaxis, lambda_)):
        if searched.log:
            plain_ticks(axis)
    if high > low:
        figure.colorbar(mpl.cm.ScalarMappable(norm, colours), ax=axes, label=sweep.metric).outline.set_visible(False)
    else:  # one value is no scale
        axes.set_title(f"{sweep.metric} {low:.4f}")
    return figure
