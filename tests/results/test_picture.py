import pytest
from matplotlib.image import imread

from pace_tune.errors import DataError
from pace_tune.results.picture import draw_sweep, objective_colours
from pace_tune.results.summary import write_summary
from pace_tune.results.sweep_data import read_sweep
from tests.results.planned_sweeps import Planned

MIXED = (Planned(value=0.9), Planned(objective="plain", value=0.85), Planned(objective="plain", value=0.4, state="pruned", epochs=4))


def test_the_picture_is_a_wide_png_with_both_colours_in_it(sweep_in, tmp_path):
    sweep = read_sweep(sweep_in(*MIXED))
    pixels = imread(draw_sweep(sweep, tmp_path / "new" / "picture.png"))[..., :3]
    height, width, _ = pixels.shape
    assert width > 2 * height > 800
    for colour in objective_colours(sweep).values():
        wanted = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        assert (abs(pixels - wanted).max(axis=-1) < 0.02).sum() > 50, colour


def test_what_was_not_measured_is_said_and_nothing_breaks(sweep_in, tmp_path):
    assert draw_sweep(read_sweep(sweep_in(Planned(epochs=1, state="running", value=float("nan")))), tmp_path / "p.png").stat().st_size


def test_no_report_no_picture(sweep_in, tmp_path):
    with pytest.raises(DataError, match="no trial has reported an epoch yet"):
        draw_sweep(read_sweep(sweep_in(Planned(state="waiting"))), tmp_path / "p.png")


def test_a_summary_writes_leaderboard_picture_and_run_file(sweep_in):
    folder = sweep_in(*MIXED)
    summary = write_summary(folder)
    assert summary.best is not None
    assert {path.name for path in folder.iterdir()} >= {"leaderboard.json", "picture.png", "best.yaml"}
    assert not list(folder.glob(".*tmp"))


def test_a_summary_of_a_sweep_without_a_winner_says_so(sweep_in):
    summary = write_summary(sweep_in(Planned(state="waiting")))
    assert (summary.best, summary.run_file, summary.picture_file) == (None, None, None)
