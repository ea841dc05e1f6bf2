"""timm backbones: names that exist, weights from files of every kind, and clear words where there are none."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from pace_tune.errors import ConfigError, DataError, UnknownNameError
from pace_tune.models.timm_vit import TIMM_NAMES
from pace_tune.registry import backbones

TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def state():
    """Weights of a tiny ViT with a classifier of its own, as a trainer would leave them."""
    torch.manual_seed(0)
    return timm.create_model(TIMM_NAMES[TINY], pretrained=False, num_classes=3).state_dict()


def build(**fields):
    return backbones.build({"name": TINY, **fields}).build(num_classes=5)


def test_every_registered_name_is_pinned_to_a_tag_that_timm_knows():
    known = set(timm.list_pretrained())
    assert {name for name in TIMM_NAMES.values() if name not in known} == set()
    assert set(TIMM_NAMES) <= set(backbones.names())


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "vit_tiny_patch16_224", "swin_base_patch4_window7_224"])
def test_random_weights_build_with_the_classes_asked_for(name):
    backbone = backbones.build({"name": name, "random_weights": True})
    model = backbone.build(num_classes=5, drop_path=0.1)
    assert model.get_classifier().out_features == 5
    assert backbone.family == name.split("_", maxsplit=1)[0]
    assert not model.training


def test_no_source_of_weights_names_the_model_and_the_ways():
    with pytest.raises(DataError, match=r"vit_tiny_patch16_224\.augreg_in21k.*checkpoint.*pretrained.*random_weights"):
        build()


def test_missing_file_names_the_file_and_the_ways(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz: no such weights file\..*vit_tiny_patch16_224\.augreg_in21k"):
        build(checkpoint=tmp_path / "gone.npz")


def test_two_sources_are_refused():
    with pytest.raises(ConfigError, match="at most one of"):
        build(pretrained=True, random_weights=True)


def test_unknown_name_gets_near_names():
    with pytest.raises(UnknownNameError, match="vit_base_patch16_224"):
        backbones.build("vit_bas_patch16_224")


@pytest.mark.parametrize("form", ["safetensors", "pth", "wrapped.pth", "module.pth"])
def test_weights_come_from_a_file_but_never_its_head(tmp_path, state, form):
    path = tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(state, path)
    else:
        prefixed = {f"module.{name}": value for name, value in state.items()}
        torch.save({"pth": state, "wrapped.pth": {"model": state}, "module.pth": {"state_dict": prefixed}}[form], path)
    loaded = build(checkpoint=path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items() if not name.startswith("head."))
    assert loaded["head.weight"].shape == (5, 192)


def test_position_embeddings_are_resized_to_the_image(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    model = build(checkpoint=tmp_path / "w.safetensors", image_size=64)
    assert model.pos_embed.shape == (1, 17, 192)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_original_npz_is_read(tmp_path, state):
    np.savez(tmp_path / "ViT.npz", **_as_npz(state))
    loaded = build(checkpoint=tmp_path / "ViT.npz").state_dict()
    assert all(torch.allclose(loaded[name], value, atol=1e-6) for name, value in state.items() if not name.startswith("head."))


def test_damaged_files_are_one_clear_line(tmp_path, state):
    lacking = {name: value for name, value in state.items() if not name.startswith("blocks.3")}
    save_file(lacking, tmp_path / "lacking.safetensors")
    cases = {"cut.safetensors": "cannot be read", "cut.npz": "cannot be read", "cut.pth": "cannot be read", "w.txt": "must end in"}
    for name in cases:
        (tmp_path / name).write_bytes(b"not weights")
    for name, reason in {**cases, "lacking.safetensors": "another architecture: lacks blocks.3"}.items():
        with pytest.raises(DataError, match=reason) as caught:
            build(checkpoint=tmp_path / name)
        assert "\n" not in str(caught.value)


def test_pickled_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="cannot be read"):
        build(checkpoint=tmp_path / "evil.pth")


def test_weights_of_another_shape_are_refused(tmp_path):
    other = timm.create_model("vit_tiny_patch16_224", embed_dim=96, num_classes=0)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="another shape"):
        build(checkpoint=tmp_path / "other.safetensors")


def test_mapping_is_plain_and_comes_back(tmp_path):
    backbone = backbones.build({"name": TINY, "checkpoint": str(tmp_path / "w.npz"), "normalisation": "half"})
    assert backbone.as_mapping()["checkpoint"] == str(tmp_path / "w.npz")
    assert backbones.build(backbone.as_mapping()) == backbone
    assert backbone.spec.mean == (0.5, 0.5, 0.5)


def _as_npz(state):
    """Write timm's tensors in the layout of the original ViT release."""
    width, heads = 192, 3
    out = {
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for i in range(12):
        block, prefix = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        attention = f"{prefix}MultiHeadDotProductAttention_1/"
        for name, weight, bias in zip(
            ("query", "key", "value"), state[f"{block}attn.qkv.weight"].chunk(3), state[f"{block}attn.qkv.bias"].chunk(3), strict=True
        ):
            out[f"{attention}{name}/kernel"] = weight.T.reshape(width, heads, -1)
            out[f"{attention}{name}/bias"] = bias.reshape(heads, -1)
        out[f"{attention}out/kernel"] = state[f"{block}attn.proj.weight"].T.reshape(heads, -1, width)
        out[f"{attention}out/bias"] = state[f"{block}attn.proj.bias"]
        for k in range(2):
            out[f"{prefix}MlpBlock_3/Dense_{k}/kernel"] = state[f"{block}mlp.fc{k + 1}.weight"].T
            out[f"{prefix}MlpBlock_3/Dense_{k}/bias"] = state[f"{block}mlp.fc{k + 1}.bias"]
            out[f"{prefix}LayerNorm_{2 * k}/scale"] = state[f"{block}norm{k + 1}.weight"]
            out[f"{prefix}LayerNorm_{2 * k}/bias"] = state[f"{block}norm{k + 1}.bias"]
    return {name: value.numpy() for name, value in out.items()}


def test_weights_that_timm_would_download_are_missing_only_where_nobody_may_be_asked(tmp_path, monkeypatch):
    backbone = backbones.build({"name": TINY, "pretrained": True})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert backbone.why_no_weights() == ""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "vit_tiny_patch16_224.augreg_in21k: not in the hub's cache" in backbone.why_no_weights()
    folder = tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc" / "model.safetensors").touch()
    assert backbone.why_no_weights() == ""
