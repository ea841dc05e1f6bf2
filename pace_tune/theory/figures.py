"""The figures: the paper's 3 to 8 with the controls beside them, and what each verdict rests on.

A figure is drawn where the runs have something to show in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pace_tune.theory.canvas import colour, in_order, legend, new_figure, save, tidy
from pace_tune.theory.checkpoint import Reading
from pace_tune.theory.model_figures import model_figures
from pace_tune.theory.runs import Run, by_kind, main_context, main_problem, representatives
from pace_tune.theory.sharpness import Sharpness
from pace_tune.theory.statistics import Interval
from pace_tune.theory.sweep_claims import gap_correlation, lambda_sweep
from pace_tune.theory.sweep_figures import map_figure, views_figure
from pace_tune.theory.training_claims import Seeds, effect_on, pairs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "measure/jacobian_norm": ("Jacobian norm ‖∂f/∂θ‖", True),
    "measure/jacobian_relative": ("Jacobian norm per logit norm", True),
    "measure/fp_distance": ("Distance to pretrained outputs", True),
    "measure/fp_distance_relative": ("Distance per ‖f‖²", False),
    "measure/grad_norm": ("Training-loss gradient norm", True),
}
CURVES = {"plain", "noise", "fpa", "pace"}
RATIOS = (
    {
        "measure/jacobian_norm": "Jacobian norm",
        "measure/jacobian_relative": "Jacobian per logit",
        "measure/grad_norm": "loss gradient",
        "gap/loss": "loss gap",
    },
    {"measure/fp_distance": "distance", "measure/fp_distance_relative": "distance per ‖f‖²"},
)


def draw(
    runs: Sequence[Run], readings: Sequence[Reading], sharpness: Sequence[tuple[Run, Sharpness, float]], *, folder: Path
) -> list[Path]:
    """Draw what the runs allow and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    context = main_context(runs)
    chosen = {kind: seeds for kind, seeds in representatives(context).items() if kind != "pace_every"}
    found = {
        "curves": curves_figure(chosen),
        "controls": controls_figure(chosen),
        "lambda_sweep": lambda_figure(context),
        "generalisation": generalisation_figure(main_problem(runs)),
        "sigma_lambda": map_figure(runs),
        "views_interval": views_figure(context),
        **model_figures(readings, sharpness),
    }
    for name in (name for name, figure in found.items() if figure is None):
        (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier time, when there was something to draw
    return [save(figure, folder / f"{name}.png") for name, figure in found.items() if figure is not None]


def curves_figure(chosen: Seeds) -> Figure | None:
    """Draw norms, distance and accuracy over the epochs, mean and standard deviation over seeds (Figures 3 and 4)."""
    kinds = in_order(kind for kind in chosen if kind in CURVES) or in_order(chosen)
    figure = new_figure(15, 7.6)
    axes = figure.subplots(2, 3).flatten()
    for panel, (key, (title, log)) in zip(axes, PANELS.items(), strict=False):
        for kind in kinds:
            _band(panel, list(chosen[kind].values()), key, label=kind, kind=kind)
        tidy(panel, title=title, xlabel="epoch", log_y=log)
    metric = next(iter(chosen[kinds[0]].values())).metric
    for kind in kinds:
        _band(axes[-1], list(chosen[kind].values()), f"val/{metric}", label=kind, kind=kind)
        _band(axes[-1], list(chosen[kind].values()), f"clean/{metric}", kind=kind, dashed=True)
    tidy(axes[-1], title=f"{metric.capitalize()}: validation (line), training (dashed)", xlabel="epoch")
    named = next((panel for panel in axes if panel.has_data()), axes[-1])
    figure.legend(*named.get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds), frameon=False)
    seeds = min(len(group) for group in chosen.values())
    figure.suptitle(f"Over training, mean ± standard deviation of {seeds} or more seeds")
    return figure


def controls_figure(chosen: Seeds) -> Figure | None:
    """Draw each objective's ratio to plain training with intervals, and the paired differences in score."""
    paired = [kind for kind in in_order(chosen) if kind != "plain" and len(pairs_of(chosen, kind, "plain")) > 1]
    kinds = [kind for kind in paired if _known(chosen, kind)]
    if not kinds:
        return None
    figure = new_figure(15, 4.6)
    *panels, scores = figure.subplots(1, 3, width_ratios=(4, 2, 1.7))
    for panel, keys in zip(panels, RATIOS, strict=True):
        for i, kind in enumerate(kinds):
            shift = (i - (len(kinds) - 1) / 2) * 0.13
            _points(panel, np.arange(len(keys)) + shift, [effect_on(chosen, kind, key) for key in keys], kind)
        panel.axhline(1, color="#333333", linewidth=0.9)
        panel.set_xticks(range(len(keys)), list(keys.values()))
        tidy(panel, title="Ratio to plain training", log_y=True)
    for i, kind in enumerate(kinds):
        _points(scores, np.array([float(i)]), [_difference(chosen, kind)], kind)
    scores.axhline(0, color="#333333", linewidth=0.9)
    scores.set_xticks([])
    tidy(scores, title="Validation score minus plain's")
    figure.legend(*scores.get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds), frameon=False)
    figure.suptitle("At the end of training, paired over seeds, with 95 % intervals")
    return figure


def lambda_figure(runs: Sequence[Run]) -> Figure | None:
    """Draw norms and score against λ under FPA and PACE, with plain training as the level (Figures 5, 8 and 9)."""
    sweeps = {kind: sweep for kind in ("fpa", "pace") if (sweep := lambda_sweep(runs, kind))}
    if not sweeps:
        return None
    metric = runs[0].metric
    keys = {"measure/jacobian_norm": "Jacobian norm", "measure/jacobian_relative": "Jacobian norm per logit norm", f"val/{metric}": metric}
    figure = new_figure(15, 4.3)
    plain = list(representatives(runs).get("plain", {}).values())
    for panel, (key, title) in zip(figure.subplots(1, len(keys)), keys.items(), strict=True):
        for kind, sweep in sweeps.items():
            values = [[run.last(key) for run in seeds.values()] for seeds in sweep.values()]
            mean, spread = np.array([np.mean(row) for row in values]), np.array([np.std(row) for row in values])
            panel.errorbar(list(sweep), mean, yerr=spread, color=colour(kind), marker="o", capsize=3, label=kind)
        if plain:
            level, width = np.mean([run.last(key) for run in plain]), np.std([run.last(key) for run in plain])
            panel.axhline(float(level), color=colour("plain"), label="plain")
            panel.axhspan(float(level - width), float(level + width), color=colour("plain"), alpha=0.15)
        tidy(panel, title=title[0].upper() + title[1:], xlabel="λ", log_x=True, log_y=key.startswith("measure"))
        legend(panel)
    figure.suptitle("At the end of training, mean ± standard deviation over seeds")
    return figure


def generalisation_figure(runs: Sequence[Run]) -> Figure | None:
    """Scatter the generalisation gap over each norm, a point a run, with the rank correlations in the titles."""
    keys = {"measure/grad_norm": "gradient norm", "measure/jacobian_norm": "Jacobian norm", "measure/fp_distance": "distance"}
    runs = [run for run in runs if np.isfinite([run.last(key) for key in ("gap/loss", *keys)]).all()]
    if len(runs) < 3:
        return None
    figure = new_figure(15, 4.6)
    for panel, (key, title) in zip(figure.subplots(1, len(keys)), keys.items(), strict=True):
        for kind in in_order(by_kind(runs)):
            group = by_kind(runs)[kind]
            points = ([run.last(key) for run in group], [run.last("gap/loss") for run in group])
            panel.scatter(*points, color=colour(kind), label=kind, s=22, alpha=0.8)
        raw, equal = gap_correlation(runs, key), gap_correlation(runs, key, given=("clean/loss",))
        words = f"rank correlation {raw.value:.2f}\nat equal training loss {equal.value:.2f}"
        tidy(panel, title=words, xlabel=title, ylabel="validation − training loss", log_x=True)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.suptitle("The generalisation gap at the end of every run")
    return figure


def _band(axes: Axes, runs: Sequence[Run], key: str, *, kind: str, label: str = "", dashed: bool = False) -> None:
    series = [run.series(key) for run in runs]
    series = [(epochs, values) for epochs, values in series if len(values)]
    if not series:
        return
    length = min(len(values) for _, values in series)
    values = np.stack([values[:length] for _, values in series])
    epochs, mean, spread = series[0][0][:length], values.mean(axis=0), values.std(axis=0)
    axes.plot(epochs, mean, color=colour(kind), label=label or None, linestyle="--" if dashed else "-", linewidth=1.2 if dashed else 1.8)
    if not dashed:
        axes.fill_between(epochs, mean - spread, mean + spread, color=colour(kind), alpha=0.15, linewidth=0)


def _points(axes: Axes, x: np.ndarray, effects: Sequence[Interval], kind: str) -> None:
    value = np.array([effect.value for effect in effects])
    low = np.array([effect.value - effect.low if np.isfinite(effect.low) else 0 for effect in effects])
    high = np.array([effect.high - effect.value if np.isfinite(effect.high) else 0 for effect in effects])
    axes.errorbar(x, value, yerr=[low, high], fmt="o", color=colour(kind), capsize=3, label=kind)


def _known(chosen: Seeds, kind: str) -> bool:
    """Return whether there is anything to show: runs that were trained on train and val measured nothing on val."""
    ratios = (effect_on(chosen, kind, key).value for keys in RATIOS for key in keys)
    return any(np.isfinite(value) for value in (_difference(chosen, kind).value, *ratios))


def _difference(chosen: Seeds, kind: str) -> Interval:
    from pace_tune.theory.statistics import mean_interval

    pairs = pairs_of(chosen, kind, "plain")
    key = f"val/{pairs[0][0].metric}"
    return mean_interval([first.last(key) - second.last(key) for first, second in pairs])
