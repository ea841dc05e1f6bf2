"""The embedded backbone: its weights load, its file is small, and its features are worth having."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pace_tune.benchmarks.digits import Digits
from pace_tune.models import vit_nano_cifar10
from pace_tune.registry import backbones

MAX_BYTES = 4_000_000


def features(model, x):
    with torch.inference_mode():
        return model.forward_head(model.forward_features(x.float() / 127.5 - 1.0), pre_logits=True)


def probe_accuracy(model, *, seed):
    """Logistic regression on the class token's features, 10 shots a digit."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    task, spec = Digits(split_seed=seed), backbones.build("vit_nano_cifar10").spec
    train, test = (task.load(split, spec=spec) for split in ("train", "test"))
    scaler = StandardScaler().fit(features(model, train.inputs["x"]))
    x_train, x_test = (scaler.transform(features(model, part.inputs["x"])) for part in (train, test))
    return LogisticRegression(C=0.1, max_iter=500).fit(x_train, train.targets).score(x_test, test.targets)


def test_weights_load_and_the_head_has_the_classes_asked_for():
    model = backbones.build("vit_nano_cifar10").build(num_classes=7)
    stored = load_file(vit_nano_cifar10.WEIGHTS)
    state = model.state_dict()
    assert set(state) - set(stored) == {"head.weight", "head.bias"}
    assert all(torch.equal(state[name], value) for name, value in stored.items())
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert not model.training


def test_drop_path_rises_linearly_to_the_rate_asked_for():
    model = backbones.build("vit_nano_cifar10").build(num_classes=2, drop_path=0.1)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.02 * index for index in range(6)])


def test_weights_are_float32_and_fit_the_package():
    assert Path(vit_nano_cifar10.WEIGHTS).stat().st_size <= MAX_BYTES
    assert {value.dtype for value in load_file(vit_nano_cifar10.WEIGHTS).values()} == {torch.float32}


def test_model_card_stands_beside_the_weights():
    card = vit_nano_cifar10.WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
    assert all(word in card for word in ("Krizhevsky", "held-out", "pretrain_vit_nano.py", "Limits"))


def test_features_beat_those_of_random_weights():
    pretrained = backbones.build("vit_nano_cifar10").build(num_classes=10)
    torch.manual_seed(0)
    untrained = type(pretrained)(img_size=32, patch_size=8, embed_dim=112, depth=6, num_heads=4, num_classes=10).eval()
    pairs = [(probe_accuracy(pretrained, seed=seed), probe_accuracy(untrained, seed=seed)) for seed in range(3)]
    assert all(trained > random + 0.05 for trained, random in pairs), pairs
