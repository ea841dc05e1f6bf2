"""Few-shot, FGVC and domain tasks on tiny copies of their published layouts, traps included."""

import json

import pytest
import torch

from pace_tune.benchmarks.fewshot import CLASSES, FOLDERS
from pace_tune.benchmarks.fgvc import DATASETS
from pace_tune.errors import ConfigError, DataError
from pace_tune.registry import tasks
from tests.benchmarks.layouts import SPEC, image_list, png

STORED = 18
"""8/7 of the backbone's 16 pixels: the engine crops."""


def load(task, split, root):
    return tasks.build(task).load(split, spec=SPEC, root=root)


# Few-shot


def fewshot(root, dataset="pets", *, shots=2):
    folder = root / "few-shot" / FOLDERS[dataset][0]
    train = f"annotations/train_meta.list.num_shot_{shots}.seed_1"
    image_list(folder, train, [(f"a b/cat {i}.jpg", i % 3) for i in range(6)], images=folder / "images")
    image_list(folder, "annotations/val_meta.list", [(f"val/{i}.jpg", i) for i in range(2)], images=folder / "images", first_seed=20)
    image_list(folder, "annotations/test_meta.list", [(f"test/{i}.jpg", i) for i in range(4)], images=folder / "images", first_seed=30)
    return folder


def test_few_shot_lists_by_shots_and_seed_with_a_margin_to_crop(tmp_path):
    fewshot(tmp_path)
    task = {"name": "fewshot/pets", "shots": 2, "list_seed": 1}
    sizes = {split: len(load(task, split, tmp_path)) for split in ("train", "val", "train+val", "test")}
    assert sizes == {"train": 6, "val": 2, "train+val": 8, "test": 4}
    assert load(task, "train", tmp_path).inputs["x"].shape == (6, 3, STORED, STORED)
    with pytest.raises(DataError, match="num_shot_2\\.seed_0"):
        load({**task, "list_seed": 0}, "train", tmp_path)
    with pytest.raises(ConfigError, match="shots"):
        tasks.build({"name": "fewshot/pets", "shots": 3})


def test_lines_that_repeat_an_image_count_once_unless_asked_for(tmp_path):
    folder = fewshot(tmp_path, shots=1)
    path = folder / "annotations" / "train_meta.list.num_shot_1.seed_1"
    path.write_text(path.read_text() * 2)
    task = {"name": "fewshot/pets", "shots": 1, "list_seed": 1}
    assert len(load(task, "train", tmp_path)) == 6
    assert len(load({**task, "keep_repeats": True}, "train", tmp_path)) == 12


def test_every_few_shot_data_set_finds_its_folder(tmp_path):
    for dataset in CLASSES:
        fewshot(tmp_path, dataset)
        assert len(load({"name": f"fewshot/{dataset}", "shots": 2, "list_seed": 1}, "train", tmp_path)) == 6


# FGVC


def fgvc(root, name="dogs", *, classes=120, missing=None):
    dataset = DATASETS[name]
    folder = root / dataset.folders[0]
    ids = [f"{100 + number}" for number in range(classes)]
    parts = {"train": ids, "val": ids[1:3], "test": ids[:2]}
    for seed, (part, labels) in enumerate(parts.items()):
        entries = {f"{part}/{label} x.jpg": int(label) for label in labels}
        for number, image in enumerate(entries):
            if image != missing:
                png(folder / dataset.images / image, seed=1000 * seed + number, size=(6, 8))
        (folder / f"{part}.json").write_text(json.dumps(entries))
    return folder


def test_class_ids_are_numbered_by_train_and_not_by_each_file(tmp_path):
    fgvc(tmp_path)
    assert load("fgvc/dogs", "val", tmp_path).targets.tolist() == [1, 2]
    assert load("fgvc/dogs", "test", tmp_path).targets.tolist() == [0, 1]
    assert len(load("fgvc/dogs", "train+val", tmp_path)) == 122


def test_an_unknown_class_a_missing_image_and_a_wrong_count_are_named(tmp_path):
    folder = fgvc(tmp_path)
    content = json.loads((folder / "val.json").read_text())
    (folder / "val.json").write_text(json.dumps({**content, "val/new.jpg": 7}))
    png(folder / "Images" / "val" / "new.jpg")
    with pytest.raises(DataError, match=r"val\.json: entry 3, val/new\.jpg: class id 7 does not occur in train\.json"):
        load("fgvc/dogs", "val", tmp_path)
    (folder / "val.json").write_text(json.dumps({**content, "val/gone.jpg": 101}))
    with pytest.raises(DataError, match=r"val\.json: entry 3 names val/gone\.jpg"):
        load("fgvc/dogs", "val", tmp_path)
    fgvc(tmp_path / "few", classes=5)
    with pytest.raises(DataError, match=r"train\.json: holds 5 classes, but 'fgvc/dogs' has 120"):
        load("fgvc/dogs", "train", tmp_path / "few")


# Domains


def domain(root):
    source = root / "few-shot" / "imagenet"
    image_list(
        source, "annotations/train_meta.list.num_shot_16.seed_0", [("n01/a.JPEG", 0), ("n02/b.JPEG", 999)], images=source / "images/train"
    )
    lines = [("n01/c.JPEG", 0), ("n02/b.JPEG", 999)]
    image_list(source, "annotations/unofficial_val_list_4_shot16seed0", lines, images=source / "images/train", first_seed=5)
    image_list(source, "annotations/val_meta.list", [("val_1.JPEG", 3)], images=source / "images/val", first_seed=9)
    places = {
        "imagenetv2": "v2/0",
        "imagenet-sketch": "images/n01",
        "imagenet-adversarial": "imagenet-a/n 01",
        "imagenet-rendition": "r/n01",
    }
    for seed, (name, place) in enumerate(places.items()):
        folder = root / "domain-generalization" / name
        image_list(
            folder, "annotations/val_meta.list", [(f"{place}/x {i}.jpg", 6 * i) for i in range(2)], images=folder, first_seed=20 + seed
        )


def test_one_training_and_a_test_set_per_domain(tmp_path):
    domain(tmp_path)
    task = tasks.build("domain/imagenet")
    assert load("domain/imagenet", "train", tmp_path).targets.tolist() == [0, 999]
    assert load("domain/imagenet", "val", tmp_path).targets.tolist() == [0], "an image that is trained on does not select"
    assert len(load("domain/imagenet", "train+val", tmp_path)) == 3
    for name in task.test_sets:
        examples = task.load_test(name, spec=SPEC, root=tmp_path)
        assert examples.targets.tolist() == ([3] if name == "source" else [0, 6])
        assert examples.inputs["x"].shape[-1] == STORED
    assert task.problems("test", root=tmp_path) == []


def test_own_domains_share_the_sources_classes(tmp_path):
    for place, classes in (("photos", "abc"), ("drawings", "ac")):
        for number, label in enumerate(classes):
            for i in range(6):
                png(tmp_path / place / label / f"{i}.png", seed=10 * number + i)
    fields = {"name": "domain/folders", "path": str(tmp_path / "photos"), "targets": {"drawings": str(tmp_path / "drawings")}}
    task = tasks.build(fields)
    drawings = task.load_test("drawings", spec=SPEC)
    assert sorted(set(drawings.targets.tolist())) == [0, 2]
    assert len(drawings) == 12
    assert len(task.load_test("source", spec=SPEC)) == 3
    png(tmp_path / "drawings" / "z" / "new.png")
    assert any("none of the classes" in line for line in tasks.build(fields).problems("test"))


def test_masked_accuracy_lets_only_the_sets_classes_be_said():
    from pace_tune.training.scoring import score

    logits = torch.tensor([[[0.0, 5.0, 1.0], [0.0, 5.0, 1.0]]])
    targets = torch.tensor([2, 0])
    assert score("accuracy", logits, targets).tolist() == [0.0]
    assert score("masked_accuracy", logits, targets).tolist() == [0.5]
