"""Figures of sweeps over PACE's own settings: the σ-λ map, and the numbers of views and of steps between consistency terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pace_tune.theory.canvas import colour, new_figure, tidy
from pace_tune.theory.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Grid = dict[tuple[float, float], list[float]]


def map_figure(runs: Sequence[Run]) -> Figure | None:
    """Draw the validation score over σ and λ, a panel per context, the mean over seeds in every field (Figure 7)."""
    maps = {context: grid for context, grid in _maps(runs).items() if _is_map(grid)}
    if not maps:
        return None
    figure = new_figure(1 + 4.4 * len(maps), 4.3)
    for panel, (context, grid) in zip(np.atleast_1d(np.array(figure.subplots(1, len(maps)))), sorted(maps.items()), strict=True):
        _map(panel, grid, title=context)
    figure.suptitle("Validation score of pace (%), mean over seeds\nthe best field is framed")
    return figure


def views_figure(runs: Sequence[Run]) -> Figure | None:
    """Draw the score against the number of views M and the interval N (Figure 6)."""
    setting = _most_common([_setting(run) for run in runs if run.objective["name"] == "pace_every"])
    group = [run for run in runs if _setting(run) == setting]
    views = _scores(group, "pace", "views")
    intervals = _scores(group, "pace_every", "interval")
    if len(views) < 2 and len(intervals) < 2:
        return None
    if 2.0 in views:
        intervals[1.0] = views[2.0]  # consistency at every step is PACE itself
    figure = new_figure(10, 4)
    panels = {"noisy views M": views, "steps between consistency terms N": intervals}
    for panel, (label, found) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        x = sorted(found)
        values = [100 * np.array(found[key]) for key in x]
        spread = [row.std(ddof=1) / len(row) ** 0.5 if len(row) > 1 else 0 for row in values]
        panel.errorbar(x, [row.mean() for row in values], yerr=spread, marker="o", capsize=3, color=colour("pace"))
        panel.set_xticks(x, [f"{value:g}" for value in x])
        tidy(panel, title="", xlabel=label)
    figure.suptitle("Validation score (%), mean and its standard error over seeds")
    return figure


def _maps(runs: Sequence[Run]) -> dict[str, Grid]:
    maps: dict[str, Grid] = {}
    for run in runs:
        if run.kind == "pace" and run.objective.get("views") == 2:
            point = (float(run.objective["sigma"]), float(run.objective["lambda"]))
            maps.setdefault(_title(run), {}).setdefault(point, []).append(run.last(f"val/{run.metric}"))
    return {context: _whole_rows(grid) for context, grid in maps.items()}


def _whole_rows(grid: Grid) -> Grid:
    """Return the grid without values of λ that only one σ has: those of a sweep over λ alone."""
    widths = {weight: len({sigma for sigma, other in grid if other == weight}) for _, weight in grid}
    return {point: scores for point, scores in grid.items() if widths[point[1]] > 1}


def _is_map(grid: Grid) -> bool:
    sigmas, lambdas = {point[0] for point in grid}, {point[1] for point in grid}
    return min(len(sigmas), len(lambdas)) > 1 and len(grid) > max(len(sigmas), len(lambdas))


def _map(axes: Axes, grid: Grid, *, title: str) -> None:
    sigmas, lambdas = sorted({point[0] for point in grid}), sorted({point[1] for point in grid})
    field = np.full((len(lambdas), len(sigmas)), np.nan)
    for (sigma, weight), scores in grid.items():
        field[lambdas.index(weight), sigmas.index(sigma)] = 100 * float(np.mean(scores))
    axes.imshow(field, origin="lower", cmap="viridis", aspect="auto")
    middle = (np.nanmin(field) + np.nanmax(field)) / 2
    for (row, column), value in np.ndenumerate(field):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="black" if value > middle else "white")
    best = np.unravel_index(int(np.nanargmax(field)), field.shape)
    across, up = np.array([-0.5, 0.5, 0.5, -0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5, -0.5])
    axes.plot(best[1] + across, best[0] + up, color="#D55E00", linewidth=2.5)
    axes.set_xticks(range(len(sigmas)), [f"{value:g}" for value in sigmas])
    axes.set_yticks(range(len(lambdas)), [f"{value:g}" for value in lambdas])
    axes.set(title=title, xlabel="σ", ylabel="λ")


def _title(run: Run) -> str:
    task = run.config["task"]
    shots = f", {task['shots']} a class" if "shots" in task else ""
    return f"{task['name']}{shots}"


def _setting(run: Run) -> tuple[float, float]:
    return float(run.objective.get("sigma", -1)), float(run.objective.get("lambda", -1))


def _most_common(settings: list[tuple[float, float]]) -> tuple[float, float] | None:
    return max(set(settings), key=settings.count) if settings else None


def _scores(runs: Sequence[Run], name: str, field: str) -> dict[float, list[float]]:
    found: dict[float, dict[int, float]] = {}
    for run in runs:
        if run.kind == name:
            found.setdefault(float(run.objective[field]), {})[run.seed] = run.last(f"val/{run.metric}")
    return {value: list(seeds.values()) for value, seeds in found.items()}
