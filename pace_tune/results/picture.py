"""One picture of a sweep: how each trial learned, and what PACE did to gradients and to the distance from the start."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pace_tune.errors import DataError
from pace_tune.files import write_bytes
from pace_tune.results.sweep_data import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers and in grey (after Okabe and Ito).
_PLAIN, _PACE = "#E69F00", "#0072B2"
_OTHERS = ("#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555")


def draw_sweep(sweep: Sweep, path: Path, *, dpi: int = 130) -> Path:
    """Draw the selection metric, the gradient norm and the FP-distance of every trial over its epochs, and return the path.

    One colour per objective; thin lines are trials, the thick one is the winner; trials that were stopped early end in a
    cross where they were stopped.

    Raises:
        DataError: No trial has reported an epoch yet.
    """
    if not any(trial.reports for trial in sweep.trials):
        raise DataError(f"{sweep.folder}: no trial has reported an epoch yet.")
    data = io.BytesIO()
    _figure(sweep).savefig(data, format="png", dpi=dpi)
    return write_bytes(path, data.getvalue())


def _figure(sweep: Sweep) -> Figure:
    # Figure by itself: pyplot would choose a window system and keep every figure alive.
    from matplotlib.figure import Figure

    panels = {
        sweep.metric: (f"Validation {sweep.metric.rpartition('/')[2].replace('_', ' ')}", "linear"),
        "measure/grad_norm": ("Gradient norm", "log"),
        "measure/fp_distance": ("FP-distance (to the pretrained outputs)", "log"),
    }
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    colours = objective_colours(sweep)
    for axes, (metric, (title, scale)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        _panel(axes, sweep, metric, colours)
        axes.set(title=title, xlabel="epoch", yscale=scale if axes.lines else "linear")
        # 0.5 and 20 read faster than powers of ten; a narrow range has its ticks in between.
        axes.yaxis.set_major_formatter(_number)
        axes.yaxis.set_minor_formatter(_number if scale == "log" and _decades(axes) < 1.2 else "")
    figure.suptitle(_title(sweep), fontsize=11)
    _legend(figure, sweep, colours)
    return figure


def _number(value: float, _position: int | None = None) -> str:
    return f"{value:.3g}"


def _decades(axes: Axes) -> float:
    low, high = axes.get_ylim()
    return math.log10(high / low) if low > 0 else 0.0


def objective_colours(sweep: Sweep) -> dict[str, str]:
    """Return a colour per objective of a sweep; `plain` and `pace` have the same ones in every picture."""
    names = sorted({trial.objective for trial in sweep.trials if trial.reports}, key=lambda name: (name != "plain", name != "pace", name))
    others = (name for name in names if name not in ("plain", "pace"))
    extra = {name: _OTHERS[index % len(_OTHERS)] for index, name in enumerate(others)}
    return {name: {"plain": _PLAIN, "pace": _PACE, **extra}[name] for name in names}


def _panel(axes: Axes, sweep: Sweep, metric: str, colours: dict[str, str]) -> None:
    best = sweep.ranked[0].number if sweep.ranked else None
    for trial in sorted(sweep.trials, key=lambda one: one.number == best):  # the winner is drawn over the others
        epochs, values = _curve(trial, metric)
        if not epochs:
            continue
        winner = trial.number == best
        colour, width, alpha = colours[trial.objective], 2.8 if winner else 1.1, 1.0 if winner else 0.55
        alone = "." if len(epochs) == 1 else None  # a line of one point shows nothing
        axes.plot(epochs, values, color=colour, linewidth=width, alpha=alpha, marker=alone, zorder=3 if winner else 2)
        if not trial.ran_fully and trial.state != "running":
            axes.plot(epochs[-1:], values[-1:], "x", color=colour, markersize=5, alpha=0.8)
        elif winner:
            axes.plot(epochs[-1:], values[-1:], "*", color=colour, markersize=13, markeredgecolor="black", zorder=4)
    if not axes.lines:
        axes.text(0.5, 0.5, f"{metric} was not measured", ha="center", va="center", transform=axes.transAxes, color="grey")
    axes.grid(visible=True, alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)


def _curve(trial: Trial, metric: str) -> tuple[list[int], list[float]]:
    points = [(int(report["epoch"]), float(report["metrics"][metric])) for report in trial.reports if metric in report["metrics"]]
    # A logarithm has no zero: the FP-distance is exactly 0 before the first step.
    shown = [(epoch, value) for epoch, value in points if math.isfinite(value) and (value > 0 or not metric.startswith("measure/"))]
    return [epoch for epoch, _ in shown], [value for _, value in shown]


def _title(sweep: Sweep) -> str:
    counts = [f"{len(sweep.trials)} trials", f"{len(sweep.ranked)} ran every epoch"]
    if not sweep.ranked:
        return f"{sweep.name}: {', '.join(counts)}"
    winner = sweep.ranked[0]
    return f"{sweep.name}: {', '.join(counts)}, best {winner.lane} ({winner.objective}) {sweep.metric} {winner.value:.4f}"


def _legend(figure: Figure, sweep: Sweep, colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    counts = {name: sum(trial.objective == name for trial in sweep.trials) for name in colours}
    handles = [Line2D([], [], color=colour, linewidth=2, label=f"{name} ({counts[name]})") for name, colour in colours.items()]
    if sweep.ranked:
        star = colours.get(sweep.ranked[0].objective, "grey")
        handles.append(Line2D([], [], color=star, marker="*", markersize=11, markeredgecolor="black", linewidth=2.8, label="best"))
    if any(not trial.ran_fully and trial.reports for trial in sweep.trials):
        handles.append(Line2D([], [], color="grey", marker="x", linestyle="", label="stopped early"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
