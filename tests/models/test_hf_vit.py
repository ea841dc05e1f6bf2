"""ViTs in transformers' layout: the file's weights, a fresh head, images of any size, and a run through the door."""

import pytest
import torch
from transformers import ViTModel

from pace_tune.methods.adapted import share_frozen
from pace_tune.methods.layout import layout_of
from pace_tune.registry import backbones
from pace_tune.worker import Worker
from tests.benchmarks.layouts import vtab
from tests.models.tiny_hf import vit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return vit(tmp_path_factory.mktemp("vit"))


def backbone(folder, **fields):
    return backbones.build({"name": "hf_vit", "path": str(folder), "image_size": 16, **fields})


def test_weights_come_from_the_file_and_the_head_is_fresh(folder):
    model = backbone(folder).build(num_classes=3)
    published = ViTModel.from_pretrained(folder).eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        features = published(pixel_values=x).last_hidden_state[:, 0]
        torch.testing.assert_close(model(x=x).logits, model.classifier(features))
    assert model(x=torch.zeros(2, 3, 16, 16)).logits.shape == (2, 3)
    layout = layout_of(model)
    assert (layout.family, layout.depth) == (backbone(folder).family, 2)


def test_another_image_size_and_a_shared_copy(folder):
    model = backbone(folder, image_size=32).build(num_classes=3)
    x = torch.randn(1, 3, 32, 32)
    copied = share_frozen(model)
    assert torch.equal(copied(x=x).logits, model(x=x).logits)
    with torch.no_grad():
        copied.classifier = torch.nn.Linear(32, 7)
    assert copied(x=x).logits.shape == (1, 7)


def test_a_run(folder, tmp_path):
    vtab(tmp_path)
    run = {
        "task": "vtab/kitti",
        "backbone": {"name": "hf_vit", "path": str(folder), "image_size": 16},
        "data": {"root": str(tmp_path), "cache": str(tmp_path / "elsewhere")},
        "method": {"name": "lora_mul_vpt_add", "rank": 2},
        "optim": {"epochs": 1, "warmup_epochs": 0, "batch_size": 4},
        "measure": {"every_epochs": 1, "samples": 2},
    }
    worker = Worker({key: run[key] for key in ("task", "backbone", "data")}, storage=tmp_path / "runs")
    worker.open("t0000", run)
    (report,) = worker.advance()
    assert report["state"] == "finished", report
    assert list((tmp_path / "elsewhere").glob("vtab-kitti-train-*.npy"))
    assert not (tmp_path / ".pace-tune-cache").exists()
