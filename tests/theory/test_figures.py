"""Figures are drawn from whatever the runs have, without a warning about what they have not."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pace_tune.theory.figures import draw
from pace_tune.theory.runs import read_runs
from pace_tune.theory.sweep_figures import map_figure
from tests.theory.planned_runs import write_pairs, write_run


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def leave_out(root: Path, prefix: str) -> None:
    for history in root.rglob("history.jsonl"):
        reports = [json.loads(line) for line in history.read_text().splitlines()]
        for report in reports:
            report["metrics"] = {key: value for key, value in report["metrics"].items() if not key.startswith(prefix)}
        history.write_text("".join(json.dumps(report) + "\n" for report in reports))


def test_runs_of_which_nothing_was_measured_have_curves_of_their_scores(tmp_path: Path) -> None:
    write_pairs(tmp_path / "runs", {"plain": {}, "pace": {}}, seeds=3)
    leave_out(tmp_path / "runs", "measure/")
    leave_out(tmp_path / "runs", "gap/")
    paths = draw(read_runs(tmp_path / "runs"), [], [], folder=tmp_path / "figures")
    assert "curves" in {path.stem for path in paths}


def test_of_runs_that_were_trained_on_val_too_no_empty_comparison_is_drawn(tmp_path: Path) -> None:
    write_pairs(tmp_path / "runs", {"plain": {}, "pace": {}}, seeds=3)
    for prefix in ("measure/", "gap/"):
        leave_out(tmp_path / "runs", prefix)
    assert "controls" in {path.stem for path in draw(read_runs(tmp_path / "runs"), [], [], folder=tmp_path / "figures")}
    leave_out(tmp_path / "runs", "val/")
    assert "controls" not in {path.stem for path in draw(read_runs(tmp_path / "runs"), [], [], folder=tmp_path / "figures")}
    assert not (tmp_path / "figures" / "controls.png").exists()


def test_a_map_leaves_out_what_belongs_to_a_sweep_over_lambda_alone(tmp_path: Path) -> None:
    points = [(0.5, 0.1), (0.5, 1.0), (1.0, 0.1), (1.0, 1.0), (1.0, 500.0)]
    for sigma, weight in points:
        write_run(tmp_path, f"{sigma}-{weight}", objective={"name": "pace", "sigma": sigma, "lambda": weight, "views": 2})
    figure = map_figure(read_runs(tmp_path))
    assert figure is not None
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["0.1", "1"]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0.5", "1"]
