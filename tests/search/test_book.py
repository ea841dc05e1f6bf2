import math
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from pace_tune.errors import UnsupportedError
from pace_tune.search import proposals
from pace_tune.search.book import Book
from pace_tune.search.early_stopping import LaneScheduler
from pace_tune.search.entry import Choices, lane_name, lane_number
from pace_tune.search.proposals import first_points
from pace_tune.search.samplers import samplers
from pace_tune.search.tally import Tally
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_file, database_url
from tests.search.studies import study


@cache
def empty_database() -> bytes:
    """Making the tables takes half a second: once is enough."""
    with tempfile.TemporaryDirectory() as folder:
        optuna.storages.RDBStorage(database_url(Path(folder))).engine.dispose()
        return database_file(Path(folder)).read_bytes()


def book_of(what: Study) -> Book:
    what.folder.mkdir(parents=True, exist_ok=True)
    if not database_file(what.folder).exists():
        database_file(what.folder).write_bytes(empty_database())
    return Book(what, url=database_url(what.folder))


def in_optuna(what: Study) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=what.name, storage=database_url(what.folder)).get_trials()


def take(book: Book, count: int) -> list[int]:
    found = [book.next() for _ in range(count)]
    return [entry.number for entry in found if entry is not None]


def close_all(book: Book) -> None:
    for number in list(book.tally.open):
        book.tell(number, outcome="failed")


def test_a_lane_is_named_after_its_number():
    assert lane_name(7) == "t0007"
    assert lane_number(lane_name(12345)) == 12345


def test_the_defaults_come_first_and_the_same_without_pace_second(tmp_path):
    what = study(tmp_path)
    book = book_of(what)
    first, second, third = (book.next() for _ in range(3))
    assert first.run == what.run(what.defaults()).as_mapping()
    assert second.run["objective"]["name"] == "plain"
    assert {path: value for path, value in second.point.items() if not path.startswith("objective")} == {
        path: value for path, value in first.point.items() if not path.startswith("objective")
    }
    assert third.run["objective"]["name"] == "pace"
    # What plain has no use for is not drawn for it.
    assert "objective.sigma" not in in_optuna(what)[1].params


def test_where_the_objective_is_a_choice_the_baseline_is_one_of_its_points(tmp_path):
    what = study(tmp_path, objective={"name": {"choice": ["pace", "plain"]}})
    book = book_of(what)
    names = [book.next().run["objective"]["name"] for _ in range(2)]
    assert names == ["pace", "plain"]
    assert in_optuna(what)[1].params["objective.name"] == "plain"


@pytest.mark.parametrize(
    ("objective", "references"),
    [
        ({"name": "pace"}, 2),
        ({"name": {"choice": ["pace", "plain"]}}, 2),
        ({"name": {"choice": ["plain", "noise"]}}, 1),
        ({"name": {"choice": ["plain", "pace"]}}, 2),
        ({"name": {"choice": ["pace", "noise"]}}, 1),
    ],
)
def test_references_are_the_first_points_of_a_study_without_a_warm_start(tmp_path, objective, references):
    what = study(tmp_path, objective=objective)
    assert what.references == references == len(list(first_points(what)))
    assert study(tmp_path, objective=objective, search={"baseline": False}).references == 0


@pytest.mark.parametrize(("names", "verdicts"), [(["pace", "plain"], ["CONTINUE"] * 2), (["pace", "noise"], ["CONTINUE", "STOP"])])
def test_only_references_are_seen_to_their_end(tmp_path, names, verdicts):
    book = book_of(study(tmp_path, objective={"name": {"choice": names}}, search={"early_stopping": {"grace_epochs": 1}}))
    scheduler = LaneScheduler(book)

    def verdict(number: int, value: float) -> str:
        report = {"report/epoch": 1, f"report/metrics/{book.study.metric}": value}
        return scheduler.on_trial_result(None, SimpleNamespace(config={"lane": lane_name(number)}), report)

    for number in take(book, 6)[2:]:
        verdict(number, 0.9)
    assert [verdict(0, 0.2), verdict(1, 0.1)] == verdicts


def test_without_a_baseline_the_warm_start_comes_first_and_may_be_partial(tmp_path):
    what = study(tmp_path, search={"baseline": False, "warm_start": [{"method.rank": 7}]})
    entry = book_of(what).next()
    assert entry.point["method.rank"] == 7
    assert set(entry.point) == {"method.rank", "objective.sigma", "optim.lr"}


def test_a_grid_tries_every_point_once(tmp_path):
    choices = {"optim": {"lr": {"choice": [1e-3, 1e-2]}}, "method": {"rank": {"choice": [2, 4]}}, "objective": {"sigma": 1.0}}
    what = study(tmp_path, trials=None, search={"sampler": "grid", "baseline": False}, **choices)
    book = book_of(what)
    points = [tuple(sorted(book.next().point.items())) for _ in range(4)]
    assert len(set(points)) == 4
    assert book.next() is None


@pytest.mark.parametrize("name", samplers.names())
def test_every_sampler_fills_a_conditional_space(tmp_path, name):
    changes = {"objective": {"name": {"choice": ["pace", "plain"]}}}
    if name == "grid":
        changes["objective"]["sigma"] = {"choice": [0.1, 1.0]}
        changes["optim"] = {"lr": {"choice": [1e-3, 1e-2]}}
    what = study(tmp_path, trials=14, search={"sampler": name}, **changes)
    book = book_of(what)
    for _ in range(14):
        try:
            entry = book.next()
        except UnsupportedError as error:
            pytest.skip(str(error))
        assert set(entry.point) == set(what.active(entry.point))
        assert all(what.space[path].contains(value) for path, value in entry.point.items())
        book.report(entry.number, epoch=1, value=0.5 + 0.01 * entry.number)
        book.tell(entry.number, outcome="finished", value=0.5 + 0.01 * entry.number)
    assert book.next() is None
    assert samplers.summary(name)


def test_the_number_of_trials_is_kept_and_a_larger_one_extends(tmp_path):
    book = book_of(study(tmp_path, trials=3))
    assert take(book, 9) == [0, 1, 2]
    close_all(book)
    longer = book_of(study(tmp_path, trials=5))
    longer.settle(["t0000", "t0001", "t0002"])
    assert take(longer, 9) == [3, 4]


def test_a_time_budget_ends_the_proposals_and_is_remembered(tmp_path):
    what = study(tmp_path, trials=None, search={"time_budget_s": 100.0})
    book = book_of(what)
    assert book.next() is not None
    book._opened_at -= 100
    assert book.next() is None
    book.save_time()
    again = book_of(what)
    assert take(again, 9) == [0]
    assert not again.complete()
    again.tell(0, outcome="failed")
    assert again.complete()


@pytest.mark.parametrize(
    ("curve", "outcome", "value", "state", "stored"),
    [
        ({1: 0.5, 2: 0.6}, "finished", 0.6, TrialState.COMPLETE, 0.6),
        ({1: 0.5}, "pruned", None, TrialState.PRUNED, 0.5),
        ({1: 0.5}, "diverged", math.nan, TrialState.PRUNED, 0.5),
        ({}, "diverged", math.nan, TrialState.FAIL, None),
        ({1: 0.5}, "failed", None, TrialState.FAIL, None),
        ({}, "out_of_memory", None, TrialState.FAIL, None),
        ({}, "finished", math.inf, TrialState.FAIL, None),
    ],
)
def test_how_a_trial_ended_is_told(tmp_path, curve, outcome, value, state, stored):
    what = study(tmp_path)
    book = book_of(what)
    entry = book.next()
    for epoch, reported in curve.items():
        book.report(entry.number, epoch=epoch, value=reported)
    book.tell(entry.number, outcome=outcome, value=value, reason="because")
    told = in_optuna(what)[0]
    assert (told.state, told.value, told.intermediate_values) == (state, stored, curve)
    assert told.user_attrs["reason"] == "because"
    again = book_of(what).entries[0]
    assert (again.outcome, again.reason, again.curve) == (entry.outcome, "because", curve)


def test_what_is_written_is_not_written_again(tmp_path):
    what = study(tmp_path)
    book = book_of(what)
    number = book.next().number
    for epoch, value in ((1, 0.1), (2, 0.2), (1, 0.9), (2, 0.9), (3, math.nan), (4, None)):
        book.report(number, epoch=epoch, value=value)
    book.tell(number, outcome="pruned")
    book.tell(number, outcome="finished", value=0.9)
    book.report(number, epoch=5, value=0.9)
    told = in_optuna(what)[number]
    assert (told.state, told.intermediate_values) == (TrialState.PRUNED, {1: 0.1, 2: 0.2})


def test_trials_whose_end_is_not_known_everywhere_are_handed_out_again_under_their_number_and_nothing_else_is(tmp_path):
    what = study(tmp_path, trials=6)
    before = book_of(what)
    runs = {entry.number: entry.run for entry in (before.next() for _ in range(5))}
    before.tell(0, outcome="failed")
    before.report(1, epoch=1, value=0.5)
    before.tell(2, outcome="failed")
    after = book_of(what)
    # The end of 2 was not tracked; that of 4, if it was, was not written into the book.
    after.settle(["t0000", "t0004", "t0017"])
    again = {entry.number: entry.run for entry in (after.next() for _ in range(4))}
    assert again == {number: runs[number] for number in (1, 2, 3, 4)}
    assert take(after, 9) == [5]
    assert [trial.number for trial in in_optuna(what)] == list(range(6))


@pytest.mark.parametrize("name", ["random", "tpe"])
@pytest.mark.parametrize("drawn", [1, 2, 3])
def test_what_is_left_of_a_half_drawn_trial_is_drawn_as_it_would_have_been(tmp_path, monkeypatch, name, drawn):
    search = {"baseline": False, "sampler": name}
    whole = book_of(study(tmp_path / "whole", search=search)).next()
    half, suggest, left = study(tmp_path / "half", search=search), proposals._suggest, [drawn]

    def killed(*args):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return suggest(*args)

    monkeypatch.setattr(proposals, "_suggest", killed)
    book = book_of(half)
    if drawn < len(half.space):
        with pytest.raises(KeyboardInterrupt):
            book.next()
    else:
        book.next()
    monkeypatch.undo()
    assert book_of(half).next().point == whole.point


def test_a_trial_whose_driver_died_while_it_was_drawn_is_completed(tmp_path):
    what = study(tmp_path, search={"baseline": False})
    whole = book_of(what).next()
    half = study(tmp_path / "half", search={"baseline": False})
    book = book_of(half)
    torn = book._ask()
    assert torn.run == {}
    adopted = book_of(half).next()
    assert (adopted.number, adopted.point) == (whole.number, whole.point)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_driver_that_is_started_again_proposes_what_the_first_would_have(tmp_path, sampler):
    search = {"sampler": sampler, "seed": 3}
    undisturbed, stopped = (study(tmp_path / name, trials=16, search=search) for name in ("a", "b"))

    def run(book: Book, count: int) -> list[dict]:
        points = []
        for _ in range(count):
            entry = book.next()
            points.append(dict(entry.point))
            book.tell(entry.number, outcome="finished", value=1 / (1 + abs(math.log(entry.point["optim.lr"] / 1e-2))))
        return points

    expected = run(book_of(undisturbed), 16)
    points = run(book_of(stopped), 13)
    again = book_of(stopped)
    again.settle(map(lane_name, range(13)))
    assert points + run(again, 3) == expected
    assert len({point["optim.lr"] for point in expected[2:]}) == 14


def test_first_points_are_queued_once_even_if_the_driver_dies_in_between(tmp_path, monkeypatch):
    what = study(tmp_path, search={"warm_start": [{"method.rank": 3}, {"method.rank": 5}]})
    enqueue = optuna.Study.enqueue_trial
    calls = []

    def dies(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return enqueue(self, *args, **kwargs)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        book_of(what)
    monkeypatch.undo()
    book = book_of(what)
    assert [book.next().point.get("method.rank") for _ in range(4)][2:] == [3, 5]
    assert len(in_optuna(what)) == 4


def test_the_best_is_the_best_finished_one(tmp_path):
    book = book_of(study(tmp_path))
    for value, outcome in ((0.9, "pruned"), (0.7, "finished"), (0.8, "finished"), (None, "failed")):
        entry = book.next()
        book.report(entry.number, epoch=1, value=value)
        book.tell(entry.number, outcome=outcome, value=value)
    assert book.best().number == 2
    assert book.tally.counts == {"pruned": 1, "finished": 2, "failed": 1}


def test_how_many_are_as_good_as_the_best_is_counted(tmp_path):
    book, equals = book_of(study(tmp_path, trials=8)), []
    for value, outcome in ((0.7, "pruned"), (0.5, "finished"), (0.5, "finished"), (0.5, "pruned"), (0.4, "finished"), (0.6, "finished")):
        entry = book.next()
        book.report(entry.number, epoch=1, value=value)
        book.tell(entry.number, outcome=outcome, value=value)
        equals.append(book.tally.equals)
    assert equals == [0, 0, 1, 1, 1, 0]


def test_what_is_counted_as_it_goes_is_what_a_count_of_all_comes_to(tmp_path):
    book = book_of(study(tmp_path, trials=8))
    for value, outcome in ((0.4, "pruned"), (0.7, "finished"), (-0.2, "finished"), (None, "failed"), (0.9, None), (0.5, "diverged")):
        entry = book.next()
        for epoch in (1, 3):
            book.report(entry.number, epoch=epoch, value=value and value / epoch)
        if outcome:
            book.tell(entry.number, outcome=outcome, value=value)
    assert book.tally.ended == 5
    assert (book.tally.epochs, book.tally.closed_epochs, book.tally.ends) == (15, 12, (-0.2, 0.9))
    counted = Tally(sign=book.sign, entries=book.entries.values())
    for tally in (counted, book_of(book.study).tally):
        assert tally.counts == book.tally.counts
        assert (tally.epochs, tally.closed_epochs, tally.ends) == (15, 12, (-0.2, 0.9))
        assert (tally.best.number, list(tally.open)) == (1, [4])


def test_what_was_chosen_for_a_trial_that_ended_is_read_when_asked_for(tmp_path):
    book = book_of(study(tmp_path, trials=6))
    chosen = []
    for number in range(6):
        entry = book.next()
        chosen.append((dict(entry.point), dict(entry.run)))
        book.tell(number, outcome="finished", value=0.5 + number % 3)
    assert [(dict(entry.point), dict(entry.run)) for entry in book.entries.values()] == chosen
    # The display shows the best one's four times a second.
    assert [isinstance(entry._choices, Choices) for entry in book.entries.values()] == [False, False, True, False, False, False]
    again = book_of(book.study)
    assert list(again.entries.values()) == list(book.entries.values())
    assert [isinstance(entry._choices, Choices) for entry in again.entries.values()] == [False, False, True, False, False, False]


def test_a_sweep_keeps_its_id(tmp_path):
    assert book_of(study(tmp_path)).sweep_id == book_of(study(tmp_path)).sweep_id
    assert book_of(study(tmp_path)).sweep_id != book_of(study(tmp_path / "other")).sweep_id
