"""Digits: disjoint, stratified, deterministic splits, at the backbone's size."""

import numpy as np
import pytest
import torch

from pace_tune.benchmarks.digits import LEFT_PER_CLASS, Digits
from pace_tune.errors import ConfigError, UnsupportedError
from pace_tune.models.backbone import InputSpec
from pace_tune.registry import tasks

SPEC = InputSpec.image(32, normalisation="half")


@pytest.fixture(scope="module")
def classes():
    from sklearn.datasets import load_digits

    return load_digits().target.astype(np.int64)


@pytest.mark.parametrize(("shots", "val", "seed"), [(1, 1, 0), (10, 20, 0), (10, 20, 7), (54, 20, 1)])
def test_splits_are_disjoint_stratified_and_of_the_declared_sizes(classes, shots, val, seed):
    parts = Digits(shots=shots, val_per_class=val, split_seed=seed).parts(classes)
    together = np.concatenate([parts.train, parts.val, parts.test])
    assert len(set(together.tolist())) == len(together)
    for index, count in ((parts.train, shots), (parts.val, val), (parts.test, 100)):
        assert np.bincount(classes[index], minlength=10).tolist() == [count] * 10


def test_same_seed_same_order_and_another_seed_another_train(classes):
    first, again, other = (Digits(split_seed=seed).parts(classes) for seed in (3, 3, 4))
    assert np.array_equal(first.train, again.train)
    assert np.array_equal(first.val, again.val)
    assert set(first.train.tolist()) != set(other.train.tolist())


def test_the_test_set_depends_on_no_field(classes):
    one, two = Digits(split_seed=0).parts(classes), Digits(shots=3, val_per_class=5, split_seed=9).parts(classes)
    assert np.array_equal(one.test, two.test)


def test_examples_are_uint8_at_the_size_of_the_backbone():
    train = Digits(shots=2).load("train", spec=SPEC)
    x = train.inputs["x"]
    assert (x.shape, x.dtype, train.targets.dtype) == ((20, 3, 32, 32), torch.uint8, torch.int64)
    assert x.float().std() > 50
    assert int(x.min()) == 0
    assert int(x.max()) > 240
    assert Digits(shots=1).load("val", spec=InputSpec.image(48, normalisation="half")).inputs["x"].shape[-1] == 48


def test_train_and_val_together_are_the_union():
    task = Digits(shots=2, val_per_class=3)
    train, val, both = (task.load(split, spec=SPEC) for split in ("train", "val", "train+val"))
    assert torch.equal(both.inputs["x"], torch.cat([train.inputs["x"], val.inputs["x"]]))
    assert torch.equal(both.targets, torch.cat([train.targets, val.targets]))


def test_declared_classes_and_metric():
    task = tasks.build({"name": "digits", "shots": 3})
    assert (task.num_classes, task.labels[9], task.metric, task.higher_is_better) == (10, "9", "accuracy", True)


def test_too_many_shots_are_refused_with_the_rule():
    with pytest.raises(ConfigError, match=f"shots \\+ val_per_class <= {LEFT_PER_CLASS}.*shots=60"):
        tasks.build({"name": "digits", "shots": 60})


def test_a_text_backbone_is_refused():
    with pytest.raises(UnsupportedError, match="images"):
        Digits().load("train", spec=InputSpec(tokenizer="t", max_length=8))
