"""How the theory's figures look: colours by objective, numbers that read at a glance, files written whole."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pace_tune.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers and in grey (after Okabe and Ito).
_COLOURS = {
    "plain": "#E69F00",
    "noise": "#009E73",
    "fpa": "#CC79A7",
    "pace": "#0072B2",
    "pace (σ_head = 0)": "#56B4E9",
    "logit_l2": "#D55E00",
}
_OTHERS = ("#555555", "#999933", "#882255", "#332288", "#AA4499", "#000000")
ORDER = tuple(_COLOURS)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches."""
    # Figure by itself: pyplot would choose a window system and keep every figure alive.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path, *, dpi: int = 130) -> Path:
    """Write a PNG, whole or not at all."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return write_bytes(path, data.getvalue())


def colour(kind: str) -> str:
    """Return an objective's colour, the same in every figure."""
    return _COLOURS.get(kind) or _OTHERS[sum(map(ord, kind)) % len(_OTHERS)]


def in_order(kinds: Iterable[str]) -> list[str]:
    """Return objectives in the order of the legend."""
    return sorted(kinds, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def tidy(axes: Axes, *, title: str, xlabel: str = "", ylabel: str = "", log_x: bool = False, log_y: bool = False) -> None:
    """Give a panel its words, a light grid, and plain numbers instead of powers of ten."""
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if log_x and axes.has_data():
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis, *axes.get_xlim())
    if log_y and axes.has_data():
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis, *axes.get_ylim())


def legend(axes: Axes, **options: Any) -> None:
    """Say what the colours mean, in a panel where something has a name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, **options)


def _plain_numbers(axis: Axis, low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    decades = math.log10(high / low)
    if decades < 0.6:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    elif decades < 3:
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if decades < 1.3 else (1, 2, 5) if decades < 2 else (1, 3)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(_number)


def _number(value: float, _: object = None) -> str:
    return f"{value:.5g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.0e}"
