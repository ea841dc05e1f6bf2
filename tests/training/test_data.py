"""Batches: normalised as the backbone wants, augmented by a lane's own numbers."""

import pytest
import torch

from pace_tune.training.data import ResidentData, augmented
from pace_tune.training.streams import stream
from tests.training.crews import SPEC, images


def generators(*seeds, epoch=0):
    return [stream(seed, "augment", epoch) for seed in seeds]


@pytest.mark.parametrize("augment", ["flip", "crop_flip"])
def test_what_a_lane_sees_does_not_depend_on_its_neighbours(augment):
    data = images(20, seed=0)
    index_KB = torch.stack([torch.arange(6), torch.arange(6).flip(0), torch.arange(3, 9)])
    together = data.batch(index_KB, augment=augment, generators=generators(7, 8, 9))["x"].unflatten(0, (3, 6))
    for lane, seed in enumerate((7, 8, 9)):
        alone = data.batch(index_KB[lane : lane + 1], augment=augment, generators=generators(seed))["x"]
        assert torch.equal(together[lane], alone)
    again = data.batch(index_KB[:1], augment=augment, generators=generators(7, epoch=1))["x"]
    assert not torch.equal(together[0], again)


def test_images_are_normalised_and_the_same_in_every_lane():
    data = images(8, seed=0)
    (x,) = data.shared_batch(slice(2, 5), lanes=2).values()
    assert torch.equal(x[:3], x[3:])
    torch.testing.assert_close(x[0], data.inputs["x"][2] / 127.5 - 1)


def test_a_flip_is_a_flip_and_a_crop_moves_by_at_most_an_eighth():
    x = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(400, 1, 1, 1)
    flipped = augmented(x, generators=generators(0), crop=False, size=8)
    is_flipped = (flipped == x.flip(-1)).flatten(1).all(dim=1)
    assert ((flipped == x).flatten(1).all(dim=1) ^ is_flipped).all()
    assert 150 < is_flipped.sum() < 250
    cropped = augmented(x, generators=generators(0), crop=True, size=8)
    padded = torch.nn.functional.pad(x[:1], (1, 1, 1, 1))
    places = [padded[0, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    known = torch.stack(
        [*places, *(torch.nn.functional.pad(x[:1].flip(-1), (1, 1, 1, 1))[0, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3))]
    )
    matches = (cropped[:, None] == known[None]).flatten(2).all(dim=2)
    assert matches.any(dim=1).all()
    assert (matches.sum(dim=0) > 0).all()  # every place occurs


def test_text_passes_through():
    inputs = {"input_ids": torch.arange(12).reshape(3, 4), "attention_mask": torch.ones(3, 4, dtype=torch.int64)}
    data = ResidentData(inputs, torch.tensor([0, 1, 0]), SPEC)
    batch = data.batch(torch.tensor([[2, 0], [1, 1]]))
    assert batch["input_ids"].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]]


def test_streams_differ_by_seed_name_and_epoch():
    first = {
        (seed, name, epoch): stream(seed, name, epoch).initial_seed()
        for seed in range(3)
        for name in ("noise", "order")
        for epoch in range(3)
    }
    assert len(set(first.values())) == len(first)
    assert torch.equal(torch.rand(4, generator=stream(1, "noise", 2)), torch.rand(4, generator=stream(1, "noise", 2)))
