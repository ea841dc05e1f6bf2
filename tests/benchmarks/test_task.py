"""Split rules and examples that every task builds on."""

import numpy as np
import pytest
import torch

from pace_tune.benchmarks.images import resize
from pace_tune.benchmarks.task import Examples, split_per_class
from pace_tune.errors import DataError

CLASSES = np.repeat(np.arange(4), [9, 12, 10, 30])


def test_parts_are_disjoint_and_nested_in_their_sizes():
    small, rest = split_per_class(CLASSES, [2, 3], seed=5)
    large, _ = split_per_class(CLASSES, [4, 3], seed=5)
    assert set(small.tolist()) <= set(large.tolist())
    assert not set(small.tolist()) & set(rest.tolist())


def test_the_first_examples_hold_every_class():
    (part,) = split_per_class(CLASSES, [3], seed=0)
    assert sorted(CLASSES[part[:4]].tolist()) == [0, 1, 2, 3]


def test_too_few_examples_are_refused():
    with pytest.raises(DataError, match="10 examples a class are needed, but the smallest class has 9"):
        split_per_class(CLASSES, [5, 5], seed=0)


def test_examples_of_unequal_length_are_refused():
    with pytest.raises(DataError, match=r"lengths \[2, 3\]"):
        Examples({"x": torch.zeros(3, 1)}, torch.zeros(2))


def test_take_keeps_the_order_asked_for():
    examples = Examples({"x": torch.arange(4)[:, None]}, torch.arange(4))
    taken = examples.take(torch.tensor([3, 1]))
    assert taken.targets.tolist() == [3, 1]
    assert len(taken) == 2


def test_resize_keeps_constant_images_and_the_type():
    x = torch.full((300, 3, 10, 6), 77, dtype=torch.uint8)
    assert torch.equal(resize(x, size=16), torch.full((300, 3, 16, 16), 77, dtype=torch.uint8))
