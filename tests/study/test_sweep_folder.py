import pytest

from pace_tune.errors import ConfigError
from pace_tune.files import write_text
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import DATABASE, VARIABLE
from pace_tune.study.sweep_folder import HISTORY, LANES, STUDY_FILE, begins_anew, check_folder, claim_folder, clear_folder
from pace_tune.study.yaml_text import read_mapping, to_yaml

from .conftest import changed


@pytest.fixture
def there(tree, tmp_path) -> dict:
    return changed(tree, {"output": str(tmp_path), "name": "mine"})


def test_a_folder_is_made_and_holds_the_study(there, tmp_path):
    study = Study.parse(there)
    check_folder(study)
    assert not study.folder.exists()
    assert claim_folder(study) == tmp_path / "mine"
    assert Study.load(study.folder / STUDY_FILE) == study
    claim_folder(study)


def test_the_same_study_may_go_on_with_more_trials_on_another_machine(there):
    claim_folder(Study.parse(there))
    more = Study.parse(changed(there, {"search.trials": 99, "resources.lanes": 8, "tracking.uri": "http://127.0.0.1:5000"}))
    claim_folder(more)
    assert Study.load(more.folder / STUDY_FILE).search.trials == 99


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"objective.sigma": {"float": [0.1, 1.0]}}, "objective.sigma is {'float': [0.1, 2.0]} there and {'float': [0.1, 1.0]} here"),
        ({"search.seed": 4}, "search.seed is 0 there and 4 here"),
        ({"optim.epochs": 31}, "optim.epochs is 30 there and 31 here"),
    ],
)
def test_another_study_does_not_move_in(there, changes, difference):
    claim_folder(Study.parse(there))
    with pytest.raises(ConfigError) as caught:
        claim_folder(Study.parse(changed(there, changes)))
    assert difference in str(caught.value)
    assert "holds another study" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_changed_study_begins_anew_where_no_trial_finished_an_epoch(there):
    folder = claim_folder(Study.parse(there))
    for made in (DATABASE, "spool/events.jsonl", "lanes/t0000/lane.safetensors"):
        write_text(folder / made, "")
    write_text(folder / "notes.txt", "mine")
    other = Study.parse(changed(there, {"optim.epochs": 31}))
    assert begins_anew(Study.parse(there)) == ""
    assert begins_anew(other) == "optim.epochs was 30 and is 31"
    check_folder(other)
    with pytest.raises(ConfigError, match="holds another study"):
        claim_folder(other)
    clear_folder(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_changed_study_does_not_begin_anew_where_something_was_learned(there, monkeypatch):
    folder = claim_folder(Study.parse(there))
    other = Study.parse(changed(there, {"optim.epochs": 31}))
    monkeypatch.setenv(VARIABLE, "postgresql://nobody@127.0.0.1/optuna")
    with pytest.raises(ConfigError, match="holds another study"):
        check_folder(other)
    monkeypatch.delenv(VARIABLE)
    write_text(folder / LANES / "t0000" / HISTORY, "{}\n")
    assert begins_anew(other) == ""
    for refused in (check_folder, claim_folder):
        with pytest.raises(ConfigError, match="holds another study"):
            refused(other)


def test_a_study_from_before_a_field_was_there_is_the_same_study(there):
    study = Study.parse(there)
    kept = claim_folder(study) / STUDY_FILE
    old = read_mapping(kept)
    del old["search"]["early_stopping"]["reduction"], old["search"]["baseline"]
    write_text(kept, to_yaml(old))
    claim_folder(study)
    assert "reduction" in kept.read_text()
    write_text(kept, to_yaml({**read_mapping(kept), "measure": {"not_known_any_more": 1}}))
    with pytest.raises(ConfigError, match=r"measure\.not_known_any_more is 1 there and None here"):
        claim_folder(study)


def test_a_folder_of_something_else_is_left_alone(there, tmp_path):
    (tmp_path / "mine").mkdir()
    check_folder(Study.parse(there))
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="is not empty and holds no study"):
        claim_folder(Study.parse(there))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_another_data_set_is_told_a_name_to_take(there, tmp_path):
    own = {"task": {"name": "folder", "path": str(tmp_path / "cats")}}
    claim_folder(Study.parse({**there, **own}))
    with pytest.raises(ConfigError, match=r"choose another `name` \(`--set name=dogs`\) or `output`"):
        claim_folder(Study.parse({**there, "task": {"name": "folder", "path": str(tmp_path / "dogs")}}))


def test_each_data_set_of_ones_own_has_an_experiment_and_the_study_file_has_the_last_word(there, tmp_path):
    own = {**there, "task": {"name": "folder", "path": str(tmp_path / "cats")}}
    assert Study.parse(there).experiment == "digits"
    assert Study.parse(own).experiment == "folder cats"
    assert Study.parse({**own, "tracking": {"experiment": "mine"}}).experiment == "mine"
