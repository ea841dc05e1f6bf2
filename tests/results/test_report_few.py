"""What a report says where there is little to say it of: no number that only looks like one."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pace_tune.results.calibration import pooled, read_reliability
from pace_tune.results.cost import Cost
from pace_tune.results.report.curves import learning_curves
from pace_tune.results.report.gap import generalisation
from pace_tune.results.report.overview import facts
from pace_tune.results.report.parts import Picture, Section, Table
from pace_tune.results.report.reliability import reliability_diagram
from pace_tune.results.report.rungs import rungs
from pace_tune.results.report.settings import sigma_lambda
from pace_tune.results.sweep_data import read_sweep
from tests.results.planned_sweeps import Planned

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measured(*, value: float = 0.8, rank: int = 4) -> Planned:
    return Planned(value=value, rank=rank, extra={"gap/loss": value / 2})


def picture(section: Section) -> "Figure":
    first = section.parts[0]
    assert isinstance(first, Picture)
    return first.draw()


def table(section: Section) -> Table:
    found = section.parts[1]
    assert isinstance(found, Table)
    return found


def test_a_correlation_of_few_trials_is_no_number(sweep_in):
    few = generalisation(read_sweep(sweep_in(*(measured(value=0.5 + i / 50) for i in range(5)), name="few")))
    assert list(table(few).columns) == ["measure", "gap", "n"]
    assert "5 trials, too few for ρ" in picture(few).axes[0].get_title()
    enough = generalisation(read_sweep(sweep_in(*(measured(value=0.5 + i / 50) for i in range(8)), name="enough")))
    assert "raw" in table(enough).columns
    assert all("[" in str(row["raw"]) for row in table(enough).rows if row["gap"] == "gap/loss")


def test_bars_at_rungs_are_spoken_of_only_where_there_are_some(sweep_in):
    few, enough = (rungs(read_sweep(sweep_in(*(measured(value=0.5 + i / 50) for i in range(n)), name=f"of{n}"))) for n in (3, 9))
    said = [section.parts[0].reading for section in (few, enough) if isinstance(section.parts[0], Picture)]
    assert ["bars" in text for text in said] == [False, True]
    assert "over 3 trials. So few leave ρ to chance" in said[0]
    assert ["rho" in table(section).columns for section in (few, enough)] == [False, True]


def test_one_value_has_no_scale_of_colours(sweep_in):
    stopped = Planned(value=0.4, state="pruned", epochs=3)
    one, two = (read_sweep(sweep_in(*(measured(value=0.5 + i / 9) for i in range(n)), stopped, name=f"of{n}")) for n in (1, 2))
    assert [len(picture(sigma_lambda(sweep)).axes) for sweep in (one, two)] == [1, 2]
    assert picture(sigma_lambda(one)).axes[0].get_title(loc="center") == "val/accuracy 0.5000"


def test_what_was_measured_in_few_epochs_is_points_over_the_whole_run(sweep_in):
    loss, norm = picture(
        learning_curves(
            read_sweep(
                sweep_in(Planned()),
            )
        )
    ).axes[0:2]
    assert loss.get_title(loc="center") == "val/accuracy"
    assert norm.get_xlim() == loss.get_xlim()
    assert norm.get_xlim()[0] < 1 < 10 < norm.get_xlim()[1]
    assert [axes.lines[0].get_marker() for axes in (loss, norm)] == ["", "o"]


def test_the_calibration_error_is_the_same_in_picture_and_table(sweep_in, monkeypatch, tmp_path):
    draw = np.random.default_rng(0)
    files = [tmp_path / f"{seed}.npz" for seed in range(3)]
    for file in files:
        sure = draw.uniform(0.5, 1, size=40)
        np.savez(file, probabilities=np.stack([sure, 1 - sure], axis=1), targets=draw.integers(2, size=40))
    monkeypatch.setattr("pace_tune.results.report.reliability.find_predictions", lambda _: {"pace": files})
    section = reliability_diagram(read_sweep(sweep_in(Planned())))
    mean = table(section).rows[0]["ece"].split()[0]
    assert picture(section).axes[0].get_title(loc="center") == f"pace, ECE {mean}"
    assert float(mean) != pytest.approx(pooled([read_reliability(file) for file in files]).ece, abs=1e-3), "they do differ"


def test_the_cost_is_a_sentence(sweep_in):
    cost = Cost(lane_s={"t0000": 87.0}, lanes_per_worker=2, gpus_per_worker=0)
    tiles = facts(read_sweep(sweep_in(Planned())), cost=cost, confirmation=None)
    assert tiles[-1][2] == "87 lane-seconds on workers of 2 lanes; no GPU"
