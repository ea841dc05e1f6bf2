"""The reliability diagram of runs that kept their predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pace_tune.results.calibration import Reliability, find_predictions, read_reliability
from pace_tune.results.report.drawing import INK, MUTED, new_figure
from pace_tune.results.report.parts import Picture, Section, Table
from pace_tune.results.sweep_data import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 4
_BLUE = "#0072b2"


def reliability_diagram(sweep: Sweep) -> Section:
    """Return confidence against accuracy for up to four runs."""
    found = {name: read_reliability(path) for name, path in list(find_predictions(sweep.folder))[:MOST]}
    if not found:
        return Section(anchor="reliability", title="Reliability", missing="no run kept its predictions")
    picture = Picture(
        name=f"{sweep.name}-reliability",
        title="Reliability",
        reading="Bars above the diagonal: more often right than sure. PACE shrinks logits, so it tends to be less sure than it could be.",
        draw=lambda: _draw(found),
    )
    rows = [{"run": name, "ece": one.ece, "count": one.count} for name, one in found.items()]
    columns = {"run": "run", "ece": "expected calibration error", "count": "examples"}
    table = Table(name=f"{sweep.name}-reliability", title="Calibration", columns=columns, rows=rows, left=("run",))
    return Section(anchor="reliability", title="Reliability", parts=(picture, table))


def _draw(found: Mapping[str, Reliability]) -> Figure:
    figure = new_figure(3.0 * len(found) + 0.6, 3.2)
    for axes, (name, one) in zip(figure.subplots(1, len(found), squeeze=False, sharey=True)[0], found.items(), strict=True):
        said, true, counts = zip(*one.bins, strict=True)
        most = max(counts)
        for x, y, count in zip(said, true, counts, strict=True):
            axes.bar(x, y, width=0.055, color=_BLUE, alpha=0.25 + 0.75 * count / most)
        axes.plot([0, 1], [0, 1], linestyle="--", color=MUTED)
        axes.text(0.04, 0.93, f"ECE {one.ece:.3f}", color=INK, transform=axes.transAxes)
        axes.set(title=name, xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
    figure.axes[0].set_ylabel("share that is right")
    return figure
