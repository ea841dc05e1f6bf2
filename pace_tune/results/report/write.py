"""Writes a report: the page, and beside it a folder with every picture and table as files of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pace_tune.errors import DataError
from pace_tune.files import write_bytes, write_text
from pace_tune.results.confirm_file import read_confirmation
from pace_tune.results.cost import Cost, cost_of
from pace_tune.results.report.curves import learning_curves
from pace_tune.results.report.decision import confirmation, verdicts
from pace_tune.results.report.drawing import style, to_files, to_image, to_inline, trial_key
from pace_tune.results.report.gap import generalisation
from pace_tune.results.report.importance import importance
from pace_tune.results.report.overview import facts
from pace_tune.results.report.page import Chapter, page
from pace_tune.results.report.parts import Kept, Part, Picture, Section, Table
from pace_tune.results.report.protocol import protocol
from pace_tune.results.report.published import published
from pace_tune.results.report.reliability import reliability_diagram
from pace_tune.results.report.rungs import rungs
from pace_tune.results.report.settings import parallel_coordinates, sigma_lambda, slices
from pace_tune.results.report.spent import spent
from pace_tune.results.report.table_text import to_csv, to_latex
from pace_tune.results.report.trials import leaderboard
from pace_tune.results.sweep_data import Sweep, Trial

SECTIONS: Sequence[Callable[[Sweep, Cost], Section]] = (
    lambda sweep, _: confirmation(sweep),
    leaderboard,
    lambda sweep, _: learning_curves(sweep),
    lambda sweep, _: parallel_coordinates(sweep),
    lambda sweep, _: importance(sweep),
    lambda sweep, _: slices(sweep),
    lambda sweep, _: sigma_lambda(sweep),
    lambda sweep, _: rungs(sweep),
    lambda sweep, _: generalisation(sweep),
    lambda sweep, _: verdicts(sweep),
    lambda sweep, _: reliability_diagram(sweep),
    spent,
)
"""In the order of the page."""


@dataclass(frozen=True)
class Report:
    """A written report: the page, and the files beside it."""

    path: Path
    files: tuple[Path, ...]


def write_report(sweeps: Sequence[Sweep], path: Path, *, paper: bool = False, progress: Callable[[str], object] = lambda _: None) -> Report:
    """Write the report of one or more sweeps.

    Args:
        sweeps: What it tells of.
        path: The HTML file; the folder ``<its stem>_files`` beside it takes pictures (PNG, SVG) and tables (CSV, LaTeX).
        paper: Also the published tables, with our confirmed scores in columns of their own.
        progress: Is told what is being done.

    Raises:
        DataError: There is nothing to report on.
    """
    if not sweeps and not paper:
        raise DataError("no sweep to report on.")
    progress("report: reading")
    chapters = [_study(sweep, index) for index, sweep in enumerate(sweeps)]
    if paper:
        chapters.append(
            Chapter(f"study-{len(sweeps)}", "Published tables", "As printed in the paper; ours beside them.", (), published(sweeps))
        )
    folder = path.with_name(f"{path.stem}_files")
    parts = [part for chapter in chapters for section in chapter.sections for part in section.parts]
    drawn, files = _draw(parts, folder, progress)
    files += [file for table in parts if isinstance(table, Table) for file in _write_table(table, folder)]
    said = {trial_key(sweep, trial): _say(sweep, trial) for sweep in sweeps for trial in sweep.trials}
    title = f"pace-tune: {', '.join(sweep.name for sweep in sweeps)}" if sweeps else "pace-tune: published tables"
    write_text(path, page(title, chapters, drawn=drawn, files=folder.name, trials=said))
    return Report(path, tuple(files))


def _study(sweep: Sweep, index: int) -> Chapter:
    cost = cost_of(sweep)
    names = {"task": sweep.data} | {key: sweep.fixed.get(f"{key}.name") for key in ("backbone", "method")}
    sub = " · ".join(f"{key} {name}" for key, name in names.items() if name) + f" · selected by {sweep.metric}"
    tiles = facts(sweep, cost=cost, confirmation=read_confirmation(sweep.folder))
    return Chapter(f"study-{index}", sweep.name, sub, tiles, [*(section(sweep, cost) for section in SECTIONS), *protocol(sweep)])


def _draw(parts: Iterable[Part], folder: Path, progress: Callable[[str], object]) -> tuple[dict[str, str], list[Path]]:
    drawn: dict[str, str] = {}
    files: list[Path] = []
    with style():
        for picture in parts:
            if isinstance(picture, Picture):
                progress(f"report: {picture.title}")
                figure = picture.draw()
                drawn[picture.name] = to_inline(figure, name=picture.name)
                files += [write_bytes(folder / file, data) for file, data in to_files(figure, name=picture.name).items()]
            elif isinstance(picture, Kept):
                data = picture.file.read_bytes()
                drawn[picture.name] = to_image(data, title=picture.title)
                files.append(write_bytes(folder / f"{picture.name}.png", data))
    return drawn, files


def _write_table(table: Table, folder: Path) -> list[Path]:
    texts = {"csv": to_csv(table), "tex": to_latex(table)}
    return [write_text(folder / f"{table.name}.{suffix}", text) for suffix, text in texts.items()]


def _say(sweep: Sweep, trial: Trial) -> str:
    """Return what the page says of a trial that is pointed at."""
    value = "no value" if trial.value is None else f"{trial.value:.4f}"
    lines = [f"{trial.lane}  {trial.state}, {sweep.metric} {value} at epoch {trial.epoch}"]
    lines += [f"{axis.label}: {_short(trial.chosen[path])}" for path, axis in sweep.axes.items() if path in trial.chosen]
    return "\n".join([*lines, *([trial.reason] if trial.reason else [])])


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
