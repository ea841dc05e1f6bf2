"""VTAB-1k: declared sizes, lists of their own, tolerance where copies differ, one clear line where they are broken."""

import pytest
import torch

from pace_tune.benchmarks.vtab import CLASSES, NATURAL, SPECIALIZED, STRUCTURED
from pace_tune.errors import DataError, UnsupportedError
from pace_tune.models.backbone import InputSpec
from pace_tune.registry import tasks
from tests.benchmarks.layouts import SPEC, image_list, png, vtab


def load(split, root, task="vtab/kitti", **fields):
    return tasks.build(task).load(split, spec=SPEC, root=root, **fields)


def test_nineteen_tasks_in_three_groups_with_declared_classes():
    names = [name for name in tasks.names() if name.startswith("vtab/")]
    assert [name.removeprefix("vtab/") for name in names] == sorted(CLASSES)
    assert sorted(NATURAL + SPECIALIZED + STRUCTURED) == sorted(CLASSES)
    assert {tasks.build(name).group for name in names} == {"Natural", "Specialized", "Structured"}
    assert tasks.build("vtab/caltech101").num_classes == 102
    assert sum(tasks.build(name).num_classes for name in names) == sum(CLASSES.values())


def test_each_split_is_its_own_list_and_files(tmp_path):
    vtab(tmp_path)
    sizes = {split: len(load(split, tmp_path)) for split in ("train", "val", "train+val", "test")}
    assert sizes == {"train": 8, "val": 4, "train+val": 12, "test": 5}
    both, train = load("train+val", tmp_path), load("train", tmp_path)
    assert not torch.equal(both.inputs["x"][:8], train.inputs["x"])


def test_classes_do_not_come_from_a_split(tmp_path):
    vtab(tmp_path)
    assert load("val", tmp_path).targets.max() == 2
    assert tasks.build("vtab/kitti").num_classes == 4


def test_the_test_files_are_read_only_when_asked_for(tmp_path):
    folder = vtab(tmp_path)
    (folder / "test.txt").write_bytes(b"\xff\xfe")
    for path in (folder / "images" / "test").iterdir():
        path.write_bytes(b"")
    for split in ("train", "val", "train+val"):
        load(split, tmp_path)
    with pytest.raises(DataError, match=r"test\.txt"):
        load("test", tmp_path)


def test_other_endings_spaces_and_repeated_lines_are_read(tmp_path):
    folder = vtab(tmp_path)
    lines = [("images/train800/a b (1).png", 0), ("images/train800/c.png", 3)]
    image_list(folder, "train800.txt", lines)
    (folder / "train800.txt").write_text("images/train800/a b (1).jpg 0\nimages/train800/c.JPEG 3\n\nimages/train800/c.png 3\n")
    assert load("train", tmp_path).targets.tolist() == [0, 3, 3]


@pytest.mark.parametrize(("task", "folder"), [("vtab/cifar", "cifar100"), ("vtab/oxford_iiit_pet", "pets")])
def test_folders_under_other_names_and_without_the_parent_are_found(tmp_path, task, folder):
    vtab(tmp_path, folder)
    assert len(load("train", tmp_path, task)) == 8
    assert len(load("train", tmp_path / "vtab-1k", task)) == 8


def test_the_same_call_gives_the_same_order(tmp_path):
    vtab(tmp_path)
    first, again = load("train", tmp_path), load("train", tmp_path, seed=7)
    assert torch.equal(first.inputs["x"], again.inputs["x"])
    assert torch.equal(first.targets, again.targets)


BROKEN = {
    "missing file": ("images/train800/gone.jpg 1", r"train800\.txt:2: names images/train800/gone\.jpg, which is not in"),
    "no label": ("images/train800/000001.jpg", r"train800\.txt:2: a line is `path label`"),
    "label out of range": ("images/train800/000001.jpg 4", r"000001\.jpg \(train800\.txt:2\): label 4 is outside of 0 to 3"),
    "negative label": ("images/train800/000001.jpg -1", "label -1 is outside of 0 to 3"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_is_named(tmp_path, case):
    line, message = BROKEN[case]
    folder = vtab(tmp_path)
    (folder / "train800.txt").write_text(f"images/train800/000000.jpg 0\n{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        load("train", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_named_with_its_line(tmp_path):
    folder = vtab(tmp_path)
    image = folder / "images" / "train800" / "000003.jpg"
    image.write_bytes(image.read_bytes()[:300])
    with pytest.raises(DataError, match=r"000003\.jpg \(train800\.txt:4\): damaged image"):
        load("train", tmp_path)


def test_an_empty_list_and_no_folder_are_named(tmp_path):
    folder = vtab(tmp_path)
    (folder / "val200.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val200\.txt: holds no images"):
        load("val", tmp_path)
    with pytest.raises(DataError, match=r"needs one of these folders in it: vtab-1k/svhn, svhn"):
        load("val", tmp_path, "vtab/svhn")
    with pytest.raises(DataError, match=r"set `data\.root`"):
        load("val", None)


def test_a_check_finds_everything_at_once(tmp_path):
    folder = vtab(tmp_path)
    with (folder / "train800.txt").open("a") as file:
        file.write("images/train800/gone.jpg 1\nimages/train800/000001.jpg 9\nnonsense\n")
    png(folder / "images" / "train800" / "000002.jpg").write_bytes(b"x")
    found = tasks.build("vtab/kitti").problems("train", root=tmp_path)
    assert len(found) == 4
    assert tasks.build("vtab/kitti").problems("val", root=tmp_path) == []


def test_a_text_backbone_is_refused(tmp_path):
    vtab(tmp_path)
    with pytest.raises(UnsupportedError, match="images"):
        tasks.build("vtab/kitti").load("train", spec=InputSpec(tokenizer="t", max_length=8), root=tmp_path)
