"""Models of transformers from a folder: right weights, right head, nothing from the network, clear words where it fails."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pace_tune.errors import DataError
from pace_tune.methods.layout import layout_of
from pace_tune.registry import backbones
from tests.models.tiny_hf import KINDS, checkpoint


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, kind):
    return checkpoint(tmp_path_factory.mktemp("tiny") / kind, kind)


def inputs():
    ids = torch.tensor([[4, 6, 8, 10, 0, 0], [5, 7, 9, 10, 4, 11]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def classifier(folder, **fields):
    return backbones.build({"name": "hf_classifier", "path": str(folder), "max_length": 32, **fields})


def test_a_classifier_has_the_classes_asked_for_and_the_files_weights(folder, kind):
    backbone = classifier(folder)
    model = backbone.build(num_classes=3)
    assert model(**inputs()).logits.shape == (2, 3)
    assert backbone.family == kind
    assert not model.training
    saved = load_file(folder / "model.safetensors")
    loaded = model.state_dict()
    body = {name: value for name, value in saved.items() if not name.startswith("lm_head")}
    prefix = "" if kind in ("llama", "phi3") else f"{kind}."
    assert all(torch.equal(loaded[prefix + name.removeprefix(prefix)], value) for name, value in body.items() if "pooler" not in name)


def test_two_builds_are_equal_though_the_head_is_fresh(folder):
    first, second = (classifier(folder).build(num_classes=2).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_padding_at_the_end_changes_nothing(folder):
    model = classifier(folder).build(num_classes=2)
    batch = inputs()
    alone = model(input_ids=batch["input_ids"][:1, :4], attention_mask=batch["attention_mask"][:1, :4]).logits
    assert torch.allclose(model(**batch).logits[:1], alone, atol=1e-5)


def test_the_table_of_sites_finds_blocks_and_head(folder, kind):
    layout = layout_of(classifier(folder).build(num_classes=2))
    assert (layout.family, layout.depth) == (kind, 2)
    assert layout.head is not None
    assert layout.head.linear.out_features == 2


def test_a_causal_model_keeps_its_own_output_layer(folder, kind):
    if kind in ("bert", "roberta"):
        pytest.skip("no causal model")
    backbone = backbones.build({"name": "hf_causal", "path": str(folder), "max_length": 32, "dtype": "bfloat16"})
    model = backbone.build(num_classes=1)
    assert next(model.parameters()).dtype == torch.bfloat16
    assert model(**inputs()).logits.shape[:2] == (2, 6)
    assert layout_of(model).head is None


def test_random_weights_need_only_the_configuration(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert classifier(tmp_path, random_weights=True).build(num_classes=2)(**inputs()).logits.shape == (2, 2)
    with pytest.raises(DataError, match=r"cannot be loaded: .*Set `backbone\.path: FOLDER`"):
        classifier(tmp_path).build(num_classes=2)


def test_missing_models_name_themselves_and_the_ways(tmp_path):
    with pytest.raises(DataError, match=r"FacebookAI/roberta-base.*backbone\.path.*hf download FacebookAI/roberta-base"):
        backbones.build("roberta_base").build(num_classes=2)
    with pytest.raises(DataError, match=r"gone: no such folder\. Set `backbone\.path"):
        classifier(tmp_path / "gone").build(num_classes=2)
    with pytest.raises(DataError, match=r"'hf_causal' needs `backbone\.path`"):
        backbones.build("hf_causal").build(num_classes=1)


def test_weights_that_lack_layers_are_refused(tmp_path):
    folder = checkpoint(tmp_path, "bert")
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "layer.1." not in name}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"another architecture: .*layer\.1.* missing") as caught:
        classifier(folder).build(num_classes=2)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_seen_without_loading(folder, tmp_path, kind):
    assert classifier(folder).why_no_weights() == ""
    assert f"{tmp_path / 'gone'}: no such folder." in classifier(tmp_path / "gone").why_no_weights()
    (tmp_path / "bare").mkdir()
    assert "no model there" in classifier(tmp_path / "bare").why_no_weights()
    (tmp_path / "bare" / "config.json").write_text("{}")
    assert "holds none of model.safetensors" in classifier(tmp_path / "bare").why_no_weights()
    assert classifier(tmp_path / "bare", random_weights=True).why_no_weights() == ""
    assert "needs `backbone.path`" in backbones.build("hf_classifier").why_no_weights()


def test_a_model_called_by_its_name_is_looked_for_in_the_hubs_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = backbones.build("roberta_base")
    assert "FacebookAI/roberta-base: no model there. Set `backbone.path" in backbone.why_no_weights()
    snapshot = tmp_path / "models--FacebookAI--roberta-base" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    assert backbone.why_no_weights() == ""
