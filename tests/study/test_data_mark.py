"""A sweep goes on with the data that it began with."""

from pathlib import Path

import pytest

from pace_tune.errors import ConfigError
from pace_tune.registry import tasks
from pace_tune.study.data_mark import DATA_FILE, changed_data
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_folder import HISTORY, LANES, begins_anew, check_folder, claim_folder

from .conftest import changed

ROWS = "text,label\n" + "".join(f"words {i},{'ab'[i % 2]}\n" for i in range(12))


@pytest.fixture
def own(tree, tmp_path) -> Study:
    (tmp_path / "own.csv").write_text(ROWS)
    task = {"name": "table", "path": str(tmp_path / "own.csv")}
    backbone = {"name": "hf_classifier", "path": str(tmp_path)}
    return Study.parse(changed({**tree, "task": task, "backbone": backbone}, {"output": str(tmp_path / "runs"), "name": "mine"}))


def test_changed_rows_are_refused_and_the_same_ones_again_are_not(own, tmp_path):
    folder = claim_folder(own)
    (folder / LANES / "t0000").mkdir(parents=True)
    (folder / LANES / "t0000" / HISTORY).write_text("{}\n")
    check_folder(own)
    (tmp_path / "own.csv").write_text(ROWS.replace("words 3", "worms 3"))
    for refused in (check_folder, claim_folder):
        with pytest.raises(ConfigError, match="the files of the task 'table' have changed since the sweep mine began"):
            refused(own)
    (tmp_path / "own.csv").unlink()
    assert changed_data(own, folder) == ""  # they may be where the workers are
    (tmp_path / "own.csv").write_text(ROWS)
    check_folder(own)


def test_where_nothing_was_learned_the_sweep_begins_anew(own, tmp_path):
    claim_folder(own)
    (tmp_path / "own.csv").write_text(ROWS[:-10])
    assert "have changed" in begins_anew(own)
    check_folder(own)


def test_a_task_that_is_no_ones_own_is_not_looked_at(tree, tmp_path):
    folder = claim_folder(Study.parse(changed(tree, {"output": str(tmp_path), "name": "mine"})))
    assert not (folder / DATA_FILE).exists()


def test_images_are_told_by_names_and_sizes(tmp_path: Path):
    task = tasks.build({"name": "folder", "path": str(tmp_path)})
    for name in ("cat/1.png", "dog/2.png", "notes.md", ".cache/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    marks = [task.fingerprint()]
    for name, content in (("notes.md", b"1"), (".cache/3.png", b"1"), ("cat/1.png", b"123"), ("cow/4.png", b"1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        marks.append(task.fingerprint())
    assert marks[0] == marks[1] == marks[2]
    assert len(set(marks)) == 3
