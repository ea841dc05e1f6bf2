import json
import re

import pytest

from pace_tune.results.leaderboard import leaderboard_rows, leaderboard_text
from pace_tune.results.sweep_data import read_sweep
from tests.results.planned_sweeps import Planned

TRIALS = (
    Planned(value=0.7),
    Planned(state="diverged", epochs=2, value=float("nan"), loss=float("inf"), reason="loss is nan [step 7]"),
    Planned(value=0.9, objective="plain"),
    Planned(value=0.5, state="pruned", epochs=3),
    Planned(value=0.6, state="pruned", epochs=3),
    Planned(state="running", epochs=5, value=0.4),
)


def test_the_ranked_come_first_then_running_then_stopped_then_broken(sweep_in):
    rows = leaderboard_rows(read_sweep(sweep_in(*TRIALS)))
    assert [(row["lane"], row["rank"]) for row in rows] == [
        *(("t0002", 1), ("t0000", 2), ("t0005", None), ("t0004", None), ("t0003", None), ("t0001", None)),
    ]


def test_rows_are_strict_json(sweep_in):
    rows = leaderboard_rows(read_sweep(sweep_in(*TRIALS)))
    again = json.loads(json.dumps(rows, allow_nan=False))
    assert again[-1]["reason"] == "loss is nan [step 7]"
    assert again[-1]["val_loss"] is None
    assert again[0]["settings"]["method.rank"] == 4


def test_the_text_shows_values_settings_and_what_broke(sweep_in):
    text = leaderboard_text(read_sweep(sweep_in(*TRIALS)))
    broken = "t0001 diverged: loss is nan [step 7]"
    for shown in ("digits: 6 trials by val/accuracy", "t0002", "0.9", "plain", "rank", "sigma", "3/10", broken):
        assert shown in text
    assert "\x1b" not in text
    assert "gap: training minus validation accuracy\n" in re.sub(" +\n", "\n", text)


def test_a_row_is_of_one_epoch_the_one_that_a_stopped_trial_was_judged_by(sweep_in):
    sweep = read_sweep(sweep_in(Planned(value=0.9), Planned(value=0.5, loss=0.8, state="pruned", epochs=3, after=1, gap_until=1)))
    row = leaderboard_rows(sweep)[1]
    assert (row["epoch"], row["value"], row["val_loss"]) == (3, 0.5, 0.8), "not of the epoch that the lane trained on"
    assert (row["gap"], row["gap_epoch"]) == (0.05, 1)
    assert "of an earlier epoch: t0001 (1)" in leaderboard_text(sweep)
    assert sweep.curves().groupby("lane")["epoch"].max()["t0001"] == 3


def test_a_limit_says_how_many_are_left_out(sweep_in):
    text = leaderboard_text(read_sweep(sweep_in(*TRIALS)), limit=2)
    assert "t0000" in text
    assert "t0003" not in text
    assert "4 more trials" in text


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (80, "rank, lr, sigma, lambda"),
        (64, "val/loss, gap, rank, lr, sigma, lambda"),
        (48, "objective, val/loss, gap, epochs, rank, lr, sigma, lambda"),
    ],
)
def test_a_narrow_terminal_drops_what_matters_least_and_breaks_no_word(sweep_in, width, gone):
    text = leaderboard_text(read_sweep(sweep_in(*TRIALS)), width=width)
    assert max(map(len, text.splitlines())) <= width
    for whole in ("t0002", "finished", "val/accuracy", "diverged"):
        assert whole in text
    footnote = " ".join(text.partition("no room for: ")[2].split())
    assert footnote == gone
    assert "no room" not in leaderboard_text(read_sweep(sweep_in(*TRIALS, name="wide")), width=160)


def test_it_says_where_every_searched_trial_was_stopped(sweep_in):
    defaults, stopped = (Planned(value=0.9), Planned(value=0.8, objective="plain")), Planned(value=0.5, state="pruned", epochs=3)
    hint = "only the defaults ran every epoch"
    assert hint in leaderboard_text(read_sweep(sweep_in(*defaults, stopped, stopped)))
    assert hint not in leaderboard_text(read_sweep(sweep_in(*defaults, stopped, Planned(value=0.7), name="searched")))
    assert hint not in leaderboard_text(read_sweep(sweep_in(*defaults, name="defaults")))
    plain = (Planned(value=0.9, objective="plain"), Planned(value=0.8, objective="plain"))
    assert hint not in leaderboard_text(read_sweep(sweep_in(*plain, stopped, name="plain")))


def test_it_says_where_no_trial_is_better_than_another(sweep_in):
    hint = "all 2 trials that ran every epoch score 0: no recipe can be told from another"
    equal = (Planned(value=0.0), Planned(value=0.0, objective="plain", loss=0.4))
    stopped = Planned(value=0.1, state="pruned", epochs=3)
    assert hint in leaderboard_text(read_sweep(sweep_in(*equal, stopped)))
    assert "told from another" not in leaderboard_text(read_sweep(sweep_in(*equal, Planned(value=0.1), name="unequal")))
    assert "told from another" not in leaderboard_text(read_sweep(sweep_in(equal[0], name="alone")))
