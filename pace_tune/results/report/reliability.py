"""How much the confidence of each confirmed recipe is worth: reliability diagrams of its test predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pace_tune.results.calibration import BINS, Reliability, find_predictions, pooled, read_reliability
from pace_tune.results.intervals import Interval, mean_interval
from pace_tune.results.report.drawing import MUTED, new_figure
from pace_tune.results.report.parts import Picture, Section, Table
from pace_tune.results.sweep_data import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 4
_BLUE = "#0072b2"
Found = Mapping[str, Sequence[Reliability]]


def reliability_diagram(sweep: Sweep) -> Section:
    """Return confidence against accuracy of each confirmed recipe, its seeds together, and the calibration error over the seeds."""
    found = {recipe: [read_reliability(file) for file in files] for recipe, files in find_predictions(sweep.folder).items()}
    if not found:
        missing = f"`pace-tune confirm {sweep.name}` keeps the predictions of classifiers that it is drawn from"
        return Section(anchor="reliability", title="Reliability", missing=missing)
    picture = Picture(
        name=f"{sweep.name}-reliability",
        title="Confidence against accuracy on the test split",
        reading="On the dashed line a model is right as often as it is sure; below it, it is too sure. The darker a bar, the more examples "
        "it holds. The bars are of all seeds of a recipe together, ECE is the mean over them.",
        draw=lambda: _draw(found),
    )
    return Section(anchor="reliability", title="Reliability", parts=(picture, _table(sweep, found)))


def _table(sweep: Sweep, found: Found) -> Table:
    rows = [{"recipe": recipe, "ece": str(_mean(parts)), "seeds": len(parts), "count": parts[0].count} for recipe, parts in found.items()]
    return Table(
        name=f"{sweep.name}-reliability",
        title="Expected calibration error",
        columns={"recipe": "recipe", "ece": "ECE, mean ± 95 % interval", "seeds": "seeds", "count": "test examples"},
        rows=rows,
        note="The mean distance between confidence and accuracy over 15 bins of confidence, weighted by how many examples each holds.",
        left=("recipe",),
    )


def _mean(parts: Sequence[Reliability]) -> Interval:
    return mean_interval([part.ece for part in parts])


def _draw(found: Found) -> Figure:
    shown = {f"{recipe}, ECE {_mean(parts).mean:.4f}": pooled(parts) for recipe, parts in list(found.items())[:MOST]}
    figure = new_figure(max(3.0 * len(shown), 4.0) + 0.6, 3.4)
    for axes, (title, one) in zip(figure.subplots(1, len(shown), squeeze=False, sharey=True)[0], shown.items(), strict=True):
        most = max(count for _, _, count in one.bins)
        for said, true, count in one.bins:
            middle = (min(int(said * BINS), BINS - 1) + 0.5) / BINS
            axes.bar(middle, true, width=0.9 / BINS, color=_BLUE, alpha=0.25 + 0.75 * count / most)
        axes.plot([0, 1], [0, 1], linestyle="--", color=MUTED)
        axes.set(title=title, xlabel="confidence", xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1))
    figure.axes[0].set_ylabel("share that is right")
    return figure
