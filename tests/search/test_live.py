import io
import json
import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
from rich.console import Console

from pace_tune.search.entry import Entry
from pace_tune.search.live import display, progress_of, style_of
from pace_tune.search.live_table import LETTERS, Footprint, TableDisplay, sparkline
from pace_tune.search.tally import Tally
from tests.search.studies import study


class Pages:
    """A book that needs no database."""

    def __init__(self, what) -> None:
        self.study = what
        self.entries: dict[int, Entry] = {}

    @property
    def tally(self) -> Tally:
        return Tally(sign=1.0, entries=self.entries.values())

    def best(self) -> Entry | None:
        return self.tally.best


@pytest.fixture(scope="module")
def what(tmp_path_factory):
    return study(tmp_path_factory.mktemp("live"), trials=4)


@pytest.fixture
def book(what) -> Pages:
    pages = Pages(what)
    pages.entries = {
        0: Entry(0, 1, {1: 0.5, 5: 0.8}, outcome="finished", value=0.8, point={"method.rank": 4}),
        1: Entry(1, 2, {1: 0.2}, outcome="pruned", value=0.2),
        2: Entry(2, 3, {1: 0.25}, point={"method.rank": 7, "optim.lr": 0.0123456}),
    }
    return pages


def report(epoch: int = 1, *, value: float = 0.25) -> dict:
    return {"lane": "t0002", "epoch": epoch, "epochs": 5, "state": "running", "reason": "", "metrics": {"val/accuracy": value}}


def drawn(shown: TableDisplay) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(shown.picture())
    return console.file.getvalue()


def test_the_table_shows_counts_the_best_and_the_running_trials(book):
    shown = TableDisplay(book, console=Console(file=io.StringIO()))
    shown.reported(book.entries[2], report())
    text = drawn(shown)
    assert "2/4 trials" in text
    assert "1 finished, 1 pruned, 0 failed, 1 running" in text
    assert "best t0000 0.8000  rank=4" in text
    book.entries[3] = Entry(3, 4, {5: 0.8}, outcome="finished", value=0.8)
    assert "best t0000 0.8000 and 1 equal  rank=4" in drawn(shown)
    del book.entries[3]
    row = next(line for line in text.splitlines() if line.strip().startswith("t0002"))
    assert all(piece in row for piece in ("1/5", "0.25", "rank=7", "lr=0.01235"))
    shown.ended(book.entries[2])
    assert "rank=7" not in drawn(shown)


def test_the_time_left_is_guessed_once_there_is_progress(book):
    shown = TableDisplay(book, console=Console(file=io.StringIO()))
    assert "left" not in drawn(shown)
    book.entries[2].curve[2] = 0.3
    assert "left" in drawn(shown)


def test_a_running_lane_has_its_curve_beside_it_on_the_scale_of_all(book):
    book.entries[2].curve.update({2: 0.52, 3: 0.8})
    shown = TableDisplay(book, console=Console(file=io.StringIO()))
    shown.reported(book.entries[2], report(3, value=0.8))
    row = next(line for line in drawn(shown).splitlines() if line.strip().startswith("t0002"))
    assert "▁▅█" in row, "0.25, 0.52 and 0.8 between the lowest and the highest value of any trial"


def test_a_curve_is_cut_and_flat_where_nothing_moves():
    assert sparkline(range(40), low=0, high=39, width=4) == "████"
    assert sparkline([0.5, 0.5], low=0.5, high=0.5) == "▁▁"
    assert sparkline([0, 1], low=0, high=1, blocks=LETTERS) == "_#"
    assert sparkline([], low=0, high=0) == ""


def test_what_was_stopped_or_broke_stays_for_a_while_with_its_reason(book):
    shown = TableDisplay(book, console=Console(file=io.StringIO()))
    book.entries[2].outcome, book.entries[2].reason = "diverged", "val/loss is nan in epoch 1"
    for number in (0, 1, 2):
        shown.ended(book.entries[number])
    text = drawn(shown)
    assert "t0001 pruned in epoch 1 at 0.2" in text
    assert "t0002 diverged in epoch 1: val/loss is nan in epoch 1" in text
    assert "t0000 finished" not in text


def test_pace_and_cost_are_shown(book):
    shown = TableDisplay(book, console=Console(file=io.StringIO()), footprint=Footprint(workers=2, gpus_per_worker=0.5))
    book.entries[2].curve[2] = 0.3
    told = report(2)
    told["metrics"]["speed/samples_per_s"] = 1234.0
    shown.reported(book.entries[2], told)
    text = drawn(shown)
    assert "epochs/min" in text
    assert "1,234 samples/s" in text
    assert "-hours" not in text, "a cost of 0.00 says nothing"
    assert Footprint(workers=2, gpus_per_worker=0.5).cost(7200) == "2.00 GPU-hours"
    assert Footprint(workers=2).cost(7200) == "4.00 worker-hours"


def test_the_first_line_stays_one_line_on_a_narrow_terminal(book):
    console = Console(file=io.StringIO(), width=72)
    console.print(TableDisplay(book, console=console).picture())
    assert console.file.getvalue().splitlines()[0].rstrip().endswith("running")


@pytest.mark.parametrize("width", [72, 80, 110])
def test_a_narrow_terminal_shows_whole_which_trial_it_is_and_how_far(book, width):
    point = {"objective.name": "pace", "method.rank": 7, "optim.lr": 0.0123456, "optim.weight_decay": 0.0001, "objective.sigma": 1.873}
    book.entries[2] = Entry(2, 3, {epoch: 0.01 * epoch for epoch in range(1, 15)}, point=point)
    console = Console(file=io.StringIO(), width=width)
    shown = TableDisplay(book, console=console)
    shown.reported(book.entries[2], {**report(14), "epochs": 20})
    console.print(shown.picture())
    lines = console.file.getvalue().splitlines()
    heading, row = next((above, line) for above, line in pairwise(lines) if line.startswith("t0002"))
    assert heading.split() == ["trial", "epoch", "val/accuracy", "train/loss", "searched"]
    assert row.split()[:3] == ["t0002", "14/20", "0.25"]
    assert "pace rank=7" in row


def test_colours_are_off_where_the_environment_says_so(book, monkeypatch):
    for name, coloured in (("COLORTERM", True), ("NO_COLOR", False)):
        monkeypatch.setenv(name, "truecolor")
        console = Console(file=io.StringIO(), width=160, force_terminal=True)
        console.print(TableDisplay(book, console=console).picture())
        assert ("\x1b[32m" in console.file.getvalue()) == coloured


def test_plain_lines_say_how_trials_end(book, capsys):
    shown = display("lines", book)
    shown.start()
    shown.say("sweep small: 4 trials")
    shown.started(book.entries[2])
    shown.reported(book.entries[2], report())
    shown.ended(book.entries[0])
    book.entries[1].outcome, book.entries[1].reason = "failed", "no memory"
    shown.ended(book.entries[1])
    shown.stop()
    assert capsys.readouterr().out.splitlines() == [
        "sweep small: 4 trials",
        "[2/4] t0000 finished 0.8000 at epoch 5; best t0000 0.8000",
        "[2/4] t0001 failed 0.2000 at epoch 1 (no memory); best t0000 0.8000",
    ]


def test_json_lines_are_json_even_where_a_value_is_none(book, capsys):
    shown = display("json", book)
    shown.reported(book.entries[2], report(value=math.nan))
    shown.ended(book.entries[0])
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["metrics"] == {"val/accuracy": None}
    assert second["elapsed_s"] >= 0
    assert (second["trial"], second["outcome"], second["best"], second["counts"]["open"]) == ("t0000", "finished", "t0000", 1)


def test_quiet_says_nothing(book, capsys):
    shown = display("quiet", book)
    shown.say("hello")
    shown.ended(book.entries[0])
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("style", "err"), [("lines", "starting Ray ...\n"), ("json", "starting Ray ...\n"), ("quiet", "")])
def test_what_is_waited_for_is_said_beside_the_results_unless_all_is_quiet(style, err, capsys):
    progress_of(style)("starting Ray ...")
    assert capsys.readouterr() == ("", err)


def test_in_a_pipe_there_is_no_table(capsys):
    assert style_of(quiet=False, json_lines=False) == "lines"
    assert style_of(quiet=True, json_lines=False) == "quiet"
    assert style_of(quiet=True, json_lines=True) == "json"


@pytest.mark.parametrize("style", ["json", "lines"])
def test_a_line_is_written_in_one_piece_so_that_no_thread_writes_into_it(style, monkeypatch: pytest.MonkeyPatch):
    pieces = []
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=pieces.append, flush=lambda: None))
    display(style, SimpleNamespace()).say("a note")
    assert len(pieces) == 1
    assert pieces[0].count("\n") == 1
    assert pieces[0].endswith("\n")
