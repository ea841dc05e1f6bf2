"""Images with a margin, splits too large for the device, and tasks with several test sets."""

import pytest
import torch

from pace_tune.benchmarks.task import Examples
from pace_tune.models.backbone import InputSpec
from pace_tune.training import data as module
from pace_tune.training.data import ResidentData, center_crop
from pace_tune.training.streams import stream
from pace_tune.worker import Worker
from tests.benchmarks.families import make

SPEC = InputSpec.image(16, normalisation="half")


def with_margin(count=6):
    x = torch.randint(256, (count, 3, 18, 18), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Examples({"x": x}, torch.arange(count))


def resident(examples):
    return ResidentData.of(examples, spec=SPEC, device=torch.device("cpu"))


def test_a_margin_is_cut_in_the_middle_or_at_random_where_asked_for():
    examples = with_margin()
    middle = resident(examples).shared_batch(slice(0, 6), lanes=1)["x"]
    torch.testing.assert_close(middle, examples.inputs["x"][..., 1:17, 1:17] / 127.5 - 1)
    index = torch.zeros(1, 200, dtype=torch.int64)
    generators = [stream(0, "augment")]
    cut = ((resident(examples).batch(index, augment="crop_flip", generators=generators)["x"] + 1) * 127.5).round().to(torch.uint8)
    first = examples.inputs["x"][0]
    places = {first[:, i : i + 16, j : j + 16].numpy().tobytes() for i in range(3) for j in range(3)}
    found = {image.numpy().tobytes() for image in (*cut, *cut.flip(-1))}
    assert places <= found
    assert {image.shape for image in cut} == {(3, 16, 16)}


def test_center_crop_is_torchvisions():
    from torchvision.transforms.functional import center_crop as reference

    for side in (16, 17, 18, 19, 21):
        x = torch.rand(2, 3, side, side)
        assert torch.equal(center_crop(x, size=16), reference(x, [16, 16]))


def test_a_split_that_stays_in_host_memory_gives_the_same_batches(monkeypatch):
    index = torch.tensor([[4, 0, 2]])
    near = resident(with_margin()).batch(index)["x"]
    monkeypatch.setattr(module, "LARGEST_RESIDENT_GIB", 0.0)
    assert torch.equal(resident(with_margin()).batch(index)["x"], near)


@pytest.mark.parametrize("name", ["domain/folders", "domain/imagenet"])
def test_each_test_set_is_scored_and_their_mean(tmp_path, name):
    tiny = make(name, tmp_path)
    run = {
        "task": tiny.fields,
        "backbone": "vit_nano_cifar10",
        "data": {"root": str(tmp_path)},
        "method": "linear",
        "objective": "plain",
        "optim": {"epochs": 1, "warmup_epochs": 0, "batch_size": 3},
        "measure": {"every_epochs": 0},
    }
    worker = Worker({key: run[key] for key in ("task", "backbone", "data")}, storage=tmp_path / "runs")
    worker.open("t0000", run)
    (report,) = worker.advance()
    assert report["state"] == "finished", report
    scores, sets = worker.score("t0000", "test"), worker.task.test_sets
    for metric in ("accuracy", "masked_accuracy"):
        assert scores[metric] == pytest.approx(sum(scores[f"{name}/{metric}"] for name in sets) / len(sets))
        assert all(scores[f"{name}/masked_accuracy"] >= scores[f"{name}/accuracy"] for name in sets)
