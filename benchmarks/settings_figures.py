"""Which settings matter: trains one random sweep, and says how much each setting explains, with intervals over resampled trials.

    python benchmarks/settings_figures.py                        # trains benchmarks/settings/digits.yaml, or goes on with it
    python benchmarks/settings_figures.py --folder pace-runs/settings-digits   # only reads a sweep that is there

Random points, none stopped early: a sampler that follows what is good, or a rung that stops what is slow, would show each setting
only where the others are good already.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pace_tune.files import write_text
from pace_tune.results.importance import importances_of
from pace_tune.results.sweep_data import Sweep, Trial, read_sweep

HERE = Path(__file__).parent
STUDY = HERE / "settings" / "digits.yaml"
RESAMPLES, TREES = 100, 16
"""How often trials are drawn again, and the trees of each such forest: a quarter of the usual, for time."""
LEVEL = (2.5, 97.5)
RANKS = (2, 4, 8, 16, 32)
COLOURS = {"plain": "#e69f00", "noise": "#009e73", "pace": "#0072b2"}


@dataclass(frozen=True)
class Effect:
    """The share of the variance that a setting explains within a group of trials, and its 95 % interval."""

    group: str
    trials: int
    setting: str
    share: float
    low: float
    high: float


def main() -> None:
    """Train if need be, then write figures and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a sweep that is there")
    parser.add_argument("--images", type=Path, default=HERE.parent / "docs" / "images")
    parser.add_argument("--table", type=Path, default=HERE / "settings" / "digits.md")
    given = parser.parse_args()
    folder = given.folder or Path("pace-runs") / "settings-digits"
    if given.folder is None:
        subprocess.run([sys.executable, "-m", "pace_tune", "sweep", str(STUDY)], check=True)
    sweep = read_sweep(folder)
    effects = effects_of(sweep)
    draw_importance(effects).savefig(given.images / "settings_importance.png", dpi=130)
    draw_slices(sweep).savefig(given.images / "settings_slices.png", dpi=130)
    write_text(given.table, tables(sweep, effects))


def effects_of(sweep: Sweep, *, seed: int = 0) -> list[Effect]:
    """Return every setting's share over all trials, and over those of each objective."""
    found = []
    for group in ("all", *COLOURS):
        trials = [trial for trial in sweep.ranked if group in ("all", trial.objective)]
        found += _effects(sweep, group, trials, np.random.default_rng(seed))
    return found


def _effects(sweep: Sweep, group: str, trials: Sequence[Trial], draw: np.random.Generator) -> list[Effect]:
    whole = importances_of(sweep, [trial.number for trial in trials])
    shares: dict[str, list[float]] = {setting: [] for setting in whole}
    for _ in range(RESAMPLES):
        again = importances_of(sweep, [trials[i].number for i in draw.integers(len(trials), size=len(trials))], trees=TREES)
        for setting, values in shares.items():
            values.append(again.get(setting, 0.0))
    spans = {setting: np.percentile(values, LEVEL) for setting, values in shares.items()}
    return [Effect(group, len(trials), setting, share, *map(float, spans[setting])) for setting, share in whole.items()]


def mean_span(values: Sequence[float], draw: np.random.Generator, *, of: Callable[..., Any] = np.mean) -> tuple[float, float, float]:
    """Return a statistic of some values with its bootstrap interval."""
    found: NDArray[Any] = np.asarray(values)
    again = [float(of(found[draw.integers(len(found), size=len(found))])) for _ in range(2000)]
    low, high = np.percentile(again, LEVEL)
    return float(of(found)), float(low), float(high)


def draw_importance(effects: Sequence[Effect]) -> Figure:
    """Draw a panel a group: shares with their intervals."""
    groups = list(dict.fromkeys(effect.group for effect in effects))
    figure = Figure(figsize=(12, 2.6), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(groups)), groups, strict=True):
        shown = sorted((effect for effect in effects if effect.group == group), key=lambda effect: effect.share)
        spans = [[max(e.share - e.low, 0) for e in shown], [max(e.high - e.share, 0) for e in shown]]
        axes.barh([e.setting for e in shown], [e.share for e in shown], xerr=spans, color=COLOURS.get(group, "#555555"), ecolor="#1b1f24")
        axes.set(title=f"{group} ({shown[0].trials} trials)", xlim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("share of the variance of validation accuracy, 95 % interval", fontsize=10)
    return figure


def draw_slices(sweep: Sweep) -> Figure:
    """Draw validation accuracy over each setting, a point a trial."""
    paths = [path for path in sweep.axes if path != "objective.name"]
    figure = Figure(figsize=(12, 2.9), layout="constrained")
    for axes, path in zip(figure.subplots(1, len(paths), sharey=True), paths, strict=True):
        for objective, colour in COLOURS.items():
            points = [(t.chosen[path], t.value) for t in sweep.ranked if t.objective == objective and path in t.chosen]
            if points:
                axes.scatter(*zip(*points, strict=True), s=12, color=colour, label=objective)
        axes.set(title=path, xscale="log" if path != "objective.sigma" else "linear")
        if path == "method.rank":
            axes.minorticks_off()
            axes.set_xticks(RANKS, labels=map(str, RANKS))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("val/accuracy")
    figure.axes[0].legend(frameon=False)
    return figure


def tables(sweep: Sweep, effects: Sequence[Effect]) -> str:
    """Return the numbers of the figures, and the objectives side by side."""
    lines = ["| trials | setting | share | 95 % interval |", "|---|---|---|---|"]
    lines += [f"| {e.group} ({e.trials}) | `{e.setting}` | {e.share:.2f} | {e.low:.2f} to {e.high:.2f} |" for e in effects]
    return "\n".join([*lines, "", *_by_objective(sweep)]) + "\n"


def _by_objective(sweep: Sweep) -> list[str]:
    draw = np.random.default_rng(0)
    lines = ["| objective | trials | mean | 95 % interval | upper quarter | 95 % interval | best |", "|---|---|---|---|---|---|---|"]
    for objective in COLOURS:
        values = [float(t.value or 0.0) for t in sweep.ranked if t.objective == objective]
        mean, *span = mean_span(values, draw)
        upper, *upper_span = mean_span(values, draw, of=lambda found: np.percentile(found, 75))
        ends: Mapping[str, Sequence[float]] = {"mean": span, "upper": upper_span}
        shown = {key: f"{low:.3f} to {high:.3f}" for key, (low, high) in ends.items()}
        lines.append(f"| {objective} | {len(values)} | {mean:.3f} | {shown['mean']} | {upper:.3f} | {shown['upper']} | {max(values):.3f} |")
    return lines


if __name__ == "__main__":
    main()
