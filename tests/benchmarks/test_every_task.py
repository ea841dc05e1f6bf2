"""The contract of every registered task, on a tiny copy of its data; a new family adds its copy to `families`."""

import pytest
import torch

from pace_tune.benchmarks.check import check_data
from pace_tune.benchmarks.image_task import ImageTask
from pace_tune.benchmarks.text_task import TextTask
from pace_tune.errors import DataError
from pace_tune.models.backbone import InputSpec
from pace_tune.registry import tasks
from pace_tune.training.judge import judge_of
from tests.benchmarks.families import make
from tests.benchmarks.layouts import SPEC
from tests.models.tiny_hf import tokenizer

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    tokenizer(folder)
    return InputSpec(tokenizer=str(folder), max_length=64)


@pytest.fixture(scope="module", params=tasks.names())
def tiny(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    return make(request.param, root), root


@pytest.fixture
def task(tiny):
    return tasks.build(tiny[0].fields)


@pytest.fixture
def load(tiny, task, words):
    spec = SPEC if task.modality == "image" else words
    return lambda split, **more: task.load(split, spec=spec, root=tiny[1], **more)


def identities(task, split, root):
    """What tells two examples apart: the image file, the text, the answer."""
    if isinstance(task, ImageTask):
        return [item.source.name for item in task.listed(split, root=root, problems=[])]
    if isinstance(task, TextTask):
        return list(task.texts(split, root=root, problems=[]).texts)
    return []


def test_its_mapping_builds_it_again(task):
    assert tasks.build(task.as_mapping()) == task
    assert task.num_classes == max(1, len(task.labels))
    assert task.metrics[0] == task.metric
    assert judge_of(task, spec=InputSpec()).metric == task.metric


def test_targets_are_what_is_declared(task, load):
    for split in SPLITS:
        targets = load(split).targets
        assert len(targets) > 0
        if task.target == "class":
            assert targets.dtype == torch.int64
            assert 0 <= int(targets.min()) <= int(targets.max()) < task.num_classes
        elif task.target == "value":
            assert targets.is_floating_point()
        else:
            assert targets.shape == load(split).inputs["input_ids"].shape


def test_splits_are_disjoint_and_their_union_is_their_sum(tiny, task, load):
    parts = [set(identities(task, split, tiny[1])) for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(load("train+val")) == len(load("train")) + len(load("val"))


def test_the_same_every_time_whatever_the_runs_seed(load):
    first, again = load("train"), load("train", seed=11)
    assert all(torch.equal(value, again.inputs[key]) for key, value in first.inputs.items())
    assert torch.equal(first.targets, again.targets)


def test_sound_data_has_no_problem(tiny, task):
    assert check_data(task, tiny[1]) == []


def test_the_test_split_is_read_only_when_it_is_asked_for(tiny, task, load):
    """Last in this file: it spoils the data."""
    if not tiny[0].tests:
        pytest.skip("its data comes with a package")
    for path in tiny[0].tests:
        path.write_bytes(b"spoilt")
    for split in ("train", "val", "train+val"):
        load(split)
    with pytest.raises(DataError):
        load("test")
