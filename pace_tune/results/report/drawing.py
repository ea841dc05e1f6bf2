"""One drawing, two uses: inline on the page, where it follows light and dark, and as a PNG and SVG file on white."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from pace_tune.results.picture import objective_colours
from pace_tune.results.sweep_data import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as MplAxis
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1b1f24", "#6b7280", "#dfe3e8"
DPI = 160
# On the page these become variables of its style, so that they read on both backgrounds.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    "#0072b2": "--blue",
    "#e69f00": "--orange",
    "#009e73": "--green",
    "#cc79a7": "--pink",
    "#56b4e9": "--sky",
    "#d55e00": "--red",
    "#555555": "--grey",
}
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's colour
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "image.cmap": "viridis",
}
_TRIAL = "trial--"
_TRIAL_ID = re.compile(rf'id="{_TRIAL}([^"]*)"')
_SIZE = re.compile(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', re.DOTALL)
_HEAD = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style: colours and fonts are fixed when a mark is made, not when it is saved."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def new_figure(width: float = 9.0, height: float = 3.6) -> Figure:
    """Return an empty figure; by itself, as pyplot would keep every one alive."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def mark(artist: Any, sweep: Sweep, trial: Trial) -> None:
    """Tie a mark to a trial: pointing at one of its marks shows all of them."""
    artist.set_gid(f"{_TRIAL}{sweep.name}--{trial.lane}")


def trial_key(sweep: Sweep, trial: Trial) -> str:
    """Return what a page knows a trial by."""
    return f"{sweep.name}--{trial.lane}"


def to_inline(figure: Figure, *, name: str) -> str:
    """Return a figure as an SVG element of a page."""
    text = _HEAD.sub("", _svg(figure, name=name, transparent=True))
    found = _SIZE.search(text)
    assert found is not None
    width, height = found.groups()
    body = text[found.end() :]
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable},{colour})")
    body = _TRIAL_ID.sub(r'class="mark" data-trial="\1"', body)
    size = f'viewBox="0 0 {width} {height}" style="max-width:{float(width) * 1.33:.0f}px"'
    # Inside HTML an SVG element needs no namespaces, and so the page holds no address at all.
    return f'<svg role="img" {size}>{body}'


def to_image(png: bytes, *, title: str) -> str:
    """Return a picture that is there already as an element of a page, which then needs no file."""
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def to_files(figure: Figure, *, name: str) -> dict[str, bytes]:
    """Return a figure as files: ``<name>.png`` and ``<name>.svg``, both on white."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DPI, facecolor="white", transparent=False)
    return {f"{name}.png": picture.getvalue(), f"{name}.svg": _svg(figure, name=name, facecolor="white").encode()}


def plain_ticks(axis: MplAxis) -> None:
    """Write the numbers of a logarithmic axis as people read them: 0.5 and 20, not powers of ten; in between where it is short."""
    low, high = sorted(axis.get_view_interval())
    # The shorter the axis, the more digits between the tens it takes to read the rest by.
    shown = "1" if low <= 0 or high > 60 * low else "125" if high > 4 * low else "12357"

    def number(value: float, _position: float) -> str:
        return f"{value:.3g}" if f"{value:e}"[0] in shown else ""

    axis.set_major_formatter(number)
    axis.set_minor_formatter(number)


def draw_legend(axes: Axes, colours: Mapping[str, str], **options: Any) -> None:
    """Add a legend of objectives where there is more than one."""
    from matplotlib.lines import Line2D

    if len(colours) > 1:
        axes.legend(handles=[Line2D([], [], color=c, marker="o", linestyle="", label=name) for name, c in colours.items()], **options)


def colours_of(sweep: Sweep) -> dict[str, str]:
    """Return a colour per objective, lower case as SVG writes them."""
    return {name: colour.lower() for name, colour in objective_colours(sweep).items()}


def _svg(figure: Figure, *, name: str, **options: Any) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    # The salt keeps the ids of clips and markers of one picture apart from those of the others on the page.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, **options)
    return text.getvalue()
