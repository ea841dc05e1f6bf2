import pytest

from pace_tune.errors import ConfigError, DataError, UnknownNameError
from pace_tune.results.best import choose_sweeps, find_best, run_yaml, short_yaml, write_run_yaml
from pace_tune.results.neighbours import neighbours
from pace_tune.results.sweep_data import read_sweep
from pace_tune.search.book import Book
from pace_tune.study.run_config import RunConfig
from pace_tune.study.sweep_database import database_url
from pace_tune.study.sweep_folder import claim_folder
from pace_tune.study.yaml_text import parse_yaml, read_mapping
from tests.results.planned_sweeps import Planned
from tests.search.studies import study


def test_the_winner_carries_its_run_and_where_it_came_from(sweep_in):
    output = sweep_in(Planned(value=0.7), Planned(value=0.9, rank=8), Planned(objective="plain", value=0.8)).parent
    (best,) = find_best(output)
    assert (best.sweep, best.task, best.lane, best.metric, best.value, best.val_loss, best.finished) == (
        *("digits", "digits", "t0001", "val/accuracy", 0.9, 0.3, 3),
    )
    assert best.config["method"]["rank"] == 8
    assert best.config["objective"]["lambda"] == 0.5
    assert best.rival is not None
    assert best.rival["objective"]["name"] == "plain"


@pytest.mark.parametrize(("baseline", "winner"), [(0.95, "plain"), (0.5, "pace")])
def test_a_baseline_that_the_study_does_not_name_keeps_its_objective(tmp_path, baseline, winner):
    """The study fixes `pace`; its second trial is the same with `plain`, whether it wins or is the rival."""
    fixed = study(tmp_path, trials=4)
    claim_folder(fixed)
    book = Book(fixed, url=database_url(fixed.folder))
    trained = {}
    for value in (0.9, baseline, 0.8, 0.7):
        entry = book.next()
        book.tell(entry.number, outcome="finished", value=value)
        trained[entry.lane] = dict(entry.run)
    (best,) = find_best(tmp_path)
    assert best.config["objective"]["name"] == winner
    assert best.config == trained[best.lane]
    assert best.rival in trained.values()
    assert best.rival["objective"]["name"] == {"plain": "pace", "pace": "plain"}[winner]
    near = {one.lane: one.differs for one in neighbours([read_sweep(fixed.folder)])}
    assert near["t0001" if winner == "pace" else "t0000"]["objective.name"] == (winner, best.rival["objective"]["name"])


def test_the_run_file_gives_the_same_run_again(sweep_in, tmp_path):
    (best,) = find_best(sweep_in(Planned()).parent)
    path = write_run_yaml(best, tmp_path / "best.yaml")
    assert RunConfig.model_validate(read_mapping(path)) == RunConfig.model_validate(best.config)
    first, second, *_ = run_yaml(best).splitlines()
    assert first == "# digits: val/accuracy 0.9000, trial t0000 of the sweep digits,"
    assert second == "# first of 1 that ran every epoch."


def test_people_read_first_what_was_searched_then_what_is_not_the_default_and_it_is_the_same_run(sweep_in):
    (best,) = find_best(sweep_in(Planned(rank=8)).parent)
    text = short_yaml(best)
    lines = text.splitlines()
    shown = ["method.rank = 8", "objective.name = pace", "objective.sigma = 1.25", "objective.lambda = 0.5", "optim.lr = 0.001"]
    assert lines[2] == "# Searched:"
    assert sorted(line.removeprefix("#   ") for line in lines[3:8]) == sorted(shown)
    assert lines[8].startswith("# The run")
    assert max(map(len, lines)) < 80, "a terminal breaks words of longer lines"
    tree = parse_yaml(text)
    assert RunConfig.model_validate(tree) == RunConfig.model_validate(best.config)
    assert tree["optim"] == {"epochs": 10}, "a default of the learning rate and of all else is left out"
    assert (tree["task"], tree["method"]) == ("digits", {"name": "lora_add", "rank": 8})
    assert not {"data", "measure", "seed", "init_from"} & set(tree)


def test_a_task_has_one_winner_over_all_its_sweeps(sweep_in):
    output = sweep_in(Planned(value=0.8), name="one").parent
    sweep_in(Planned(value=0.9), name="two")
    assert [best.sweep for best in find_best(output)] == ["two"]
    assert [best.sweep for best in find_best(output, "digits")] == ["two"]
    assert [best.sweep for best in find_best(output, "one")] == ["one"]
    assert [best.sweep for best in find_best(output, "search_spaces/one.yaml")] == ["one"]


def test_ones_own_data_is_told_apart_by_its_path(sweep_in):
    output = sweep_in(Planned(value=0.6), name="photos", task="folder", data="/data/photos").parent
    sweep_in(Planned(value=0.9), name="fruit", task="folder", data="/data/fruit")
    sweep_in(Planned(value=0.7), name="again", task="folder", data="/data/photos")
    assert sorted((best.data, best.sweep) for best in find_best(output)) == [("folder fruit", "fruit"), ("folder photos", "again")]
    assert [best.sweep for best in find_best(output, "folder photos")] == ["again"]
    assert run_yaml(find_best(output, "fruit")[0]).startswith("# folder fruit: val/accuracy 0.9000")


def test_a_task_that_stands_for_several_data_sets_is_refused(sweep_in):
    output = sweep_in(Planned(value=0.6), name="photos", task="folder", data="/data/photos").parent
    assert [best.sweep for best in find_best(output, "folder")] == ["photos"]
    sweep_in(Planned(value=0.9), name="fruit", task="folder", data="/data/fruit")
    for look in (find_best, choose_sweeps):
        with pytest.raises(DataError, match=r"several data sets: name a sweep, fruit \(/data/fruit\), photos \(/data/photos\)"):
            look(output, "folder")


def test_a_sweep_without_a_winner_hides_no_task_of_its_name(sweep_in):
    output = sweep_in(name="digits").parent
    with pytest.raises(DataError, match="no trial yet in digits"):
        find_best(output, "digits")
    sweep_in(Planned(value=0.9), name="two")
    assert [best.sweep for best in find_best(output, "digits")] == ["two"]
    assert [best.sweep for best in find_best(output)] == ["two"]


def test_equal_winners_of_two_sweeps_are_told_apart_by_validation_loss(sweep_in):
    output = sweep_in(Planned(value=0.9, loss=0.4), name="one").parent
    sweep_in(Planned(value=0.9, loss=0.2), name="two")
    assert find_best(output)[0].sweep == "two"


def test_a_name_that_is_nothing_is_told_with_near_names(sweep_in):
    with pytest.raises(UnknownNameError, match=r"unknown study or task 'digist'. Did you mean 'digits'"):
        find_best(sweep_in(Planned()).parent, "digist")


def test_nothing_to_choose_from_is_one_clear_line(sweep_in, tmp_path):
    with pytest.raises(DataError, match="no sweep in this folder"):
        find_best(tmp_path)
    with pytest.raises(DataError, match="no trial has run every epoch yet in digits"):
        find_best(sweep_in(Planned(state="pruned", epochs=2)).parent)


def test_a_test_score_never_selects(sweep_in):
    folder = sweep_in(Planned(extra={"test/accuracy": 0.99}))
    (folder / "study.yaml").write_text((folder / "study.yaml").read_text().replace("trials: 16", "trials: 16, metric: test/accuracy"))
    with pytest.raises(ConfigError, match=r"the selection metric is not a test score"):
        find_best(folder.parent)
