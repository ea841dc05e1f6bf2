"""Trainable parameters on ViT-B/16 and RoBERTa-base, head excluded, against the published and derived numbers.

Each count is written as the formula it comes from: d = 768, 12 blocks, sums over the 48 linear layers out + in = 147,456,
out = 82,944, in = 64,512.
"""

import pytest
import torch
from torch import nn

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.glora import Glora
from pace_tune.methods.layout import Layout, layout_of
from pace_tune.methods.noah import Noah
from pace_tune.methods.supernet import encoded
from pace_tune.registry import methods

CLASSES = 100
HEAD = 768 * CLASSES + CLASSES


@pytest.fixture(scope="module")
def vit_b() -> nn.Module:
    import timm

    with torch.device("meta"):
        return timm.create_model("vit_base_patch16_224", num_classes=CLASSES)


@pytest.fixture(scope="module")
def roberta_base() -> nn.Module:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    sizes = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    with torch.device("meta"):
        return RobertaForSequenceClassification(RobertaConfig(**sizes, num_labels=2))


def count(model: nn.Module, name: str, *, head: bool = False, **fields: object) -> int:
    from pace_tune.methods.adapted import remove

    adapted = Adapted(model, [methods.build({"name": name, **fields})])
    try:
        return adapted.num_parameters(head=head)
    finally:
        remove(adapted)


VIT_B = [
    ("full", {}, 85_798_656),
    ("linear", {}, 0),
    ("bitfit", {}, 102_912),
    ("vpt_shallow", {"prompts": 50}, 768 * 50),
    ("vpt_deep", {"prompts": 50}, 9_216 * 50),
    ("vpt_deep", {"prompts": 7}, 9_216 * 7),
    ("adapter_houlsby", {"hidden": 8}, 2 * 156_768),
    ("adapter_houlsby", {"hidden": 48}, 24 * (2 * 768 * 48 + 48 + 768)),
    ("adapter_pfeiffer", {"hidden": 8}, 156_768),
    ("adapter_pfeiffer", {"hidden": 48}, 894_528),
    ("adaptformer", {"hidden": 64}, 12 * (2 * 768 * 64 + 64 + 768)),
    ("adaptformer", {"hidden": 8}, 156_768),
    ("lora", {"rank": 8}, 294_912),
    ("lora", {"rank": 8, "targets": "qv"}, 294_912),
    ("rep_adapter", {}, 239_808),
    ("rep_adapter", {"where": "attention"}, 119_904),
    ("rlrr", {}, 288_768),
    ("rlrr", {"separate_qkv": False}, 270_336),
    ("lora_add", {"rank": 4}, 147_456 * 4 + 82_944),
    ("lora_mul", {"rank": 10}, 147_456 * 10 + 82_944),
    ("vpt_add", {}, 64_512),
    ("vpt_add", {"form": "factorised", "rank": 10}, 64_560 * 10),
    ("lora_mul_vpt_add", {"rank": 10, "prompt": "vector"}, 147_456 * 11),
    ("lora_mul_vpt_add", {"rank": 10, "prompt": "factorised"}, 212_016 * 10 + 82_944),
    ("ssf", {}, 205_824),
    ("arc", {}, 96_432),
    ("arc", {"where": "attention"}, 48_216),
    ("vera", {"rank": 256}, 12 * 2 * (256 + 768)),
    ("glora", {"rank": 2}, 884_832),
    ("glora", {"rank": 4}, 1_603_776),
    ("glora", {"rank": 8}, 3_041_664),
    ("noah", {}, 10 * 9_216 + 10 * 36_864 + 12 * (10 * 1_537 + 768)),
]


@pytest.mark.parametrize(("name", "fields", "expected"), VIT_B, ids=lambda value: value if isinstance(value, str) else "")
def test_vit_b(vit_b: nn.Module, name: str, fields: dict, expected: int):
    assert count(vit_b, name, **fields) == expected
    assert count(vit_b, name, head=True, **fields) == expected + HEAD


ROBERTA_BASE = [
    ("bitfit", {}, 102_144),
    ("lora", {"rank": 8, "targets": "qv"}, 294_912),
    ("vera", {"rank": 1024}, 43_008),
    ("adapter_pfeiffer", {"hidden": 48}, 894_528),
    ("adapter_pfeiffer", {"hidden": 16}, 304_320),
]


@pytest.mark.parametrize(("name", "fields", "expected"), ROBERTA_BASE, ids=lambda value: value if isinstance(value, str) else "")
def test_roberta_base(roberta_base: nn.Module, name: str, fields: dict, expected: int):
    assert count(roberta_base, name, **fields) == expected
    # Both layers of the classifier are new, and train.
    assert count(roberta_base, name, head=True, **fields) == expected + 592_130


def test_phi3_mini():
    from transformers import Phi3Config, Phi3ForCausalLM

    with torch.device("meta"):
        model = Phi3ForCausalLM(Phi3Config(num_hidden_layers=32, hidden_size=3072, intermediate_size=8192, num_attention_heads=32))
    assert count(model, "lora", rank=16, targets="qkv,attn_out") == 9_437_184
    assert count(model, "lora", rank=16, targets="all") == 25_165_824


@pytest.fixture(scope="module")
def layout(vit_b: nn.Module) -> Layout:
    return layout_of(vit_b)


def test_paths_through_noah_cost_what_is_there(layout: Layout):
    method = Noah(widths=(5, 10, 50))
    # The published subnet for ImageNet: widths 5, 10, 10 / 5, 10, 10 / 10, 10, 50 in the first three blocks.
    first = {"vpt": (0, 1, 1), "lora": (0, 1, 1), "adapter": (1, 1, 2)}
    widths = [(*first[kind], *[0] * 9) for kind in ("vpt", "lora", "adapter")]
    choice = encoded(digit for kind in widths for digit in (0, *kind))
    assert method.cost(layout, choice) == 768 * 25 + 3_072 * 25 + 1_537 * 70 + 3 * 768 == 205_894


def test_paths_through_glora_cost_what_is_there(layout: Layout):
    options = Glora().choices(layout)
    assert len(options) == 48 * 5
    nothing = encoded(len(forms) - 1 for forms in options.values())
    assert Glora().cost(layout, nothing) == 0
    assert Glora(rank=4).cost(layout, "0" * len(options)) == 1_603_776
    # A and B as vectors of qkv's 2304 outputs, C of its 768 inputs, D and E as constants.
    assert Glora().cost(layout, "11111" + nothing[5:]) == 2 * 2304 + 768 + 2


@pytest.mark.parametrize(("rank", "published_m"), [(2, 0.309), (4, 0.499), (8, 0.880)])
def test_mean_cost_of_random_glora_paths(layout: Layout, rank: int, published_m: float):
    rows_and_columns = [(place.linear.out_features, place.linear.in_features) for place in layout.linears()]
    matrix = sum((rank * (o + i) + o + 1) / 4 for o, i in rows_and_columns)
    prompt = sum((rank * (i + 1) + i) / 3 for _, i in rows_and_columns)
    bias = sum((o + 1) / 3 for o, _ in rows_and_columns)
    assert (2 * matrix + prompt + 2 * bias) / 1e6 == pytest.approx(published_m, abs=1e-3)


def test_the_table_of_methods_shows_these_counts():
    from pace_tune.methods.describe import describe

    names = ["bitfit", "lora", "ssf", "arc", "glora", "vpt_deep", "lora_mul_vpt_add", "peft:oft"]
    rows = {row["name"]: row for row in describe("vit_base_patch16_224", num_classes=CLASSES, names=names)}
    counts = {name: row["parameters"] for name, row in rows.items() if not name.startswith("peft:")}
    assert counts == {
        "bitfit": 102_912,
        "lora": 294_912,
        "ssf": 205_824,
        "arc": 96_432,
        "glora": 3_041_664,
        "vpt_deep": 92_160,
        "lora_mul_vpt_add": 1_622_016,
    }
    assert all(row["with_head"] == row["parameters"] + HEAD for row in rows.values())
    assert {name for name, row in rows.items() if not row["merges"]} == {"vpt_deep"}
    assert {name for name, row in rows.items() if not row["identity_at_start"]} == {"ssf", "arc", "vpt_deep"}
    assert {name for name, row in rows.items() if not row["lanes"]} == {"peft:oft"}
    assert "roberta" not in rows["arc"]["families"]
    assert all(row["paper"] for row in rows.values())


def test_a_method_that_a_backbone_refuses_stands_in_the_table_with_its_sentence():
    from pace_tune.methods.describe import describe

    (row,) = describe("swin_base_patch4_window7_224", names=["vpt_deep"])
    assert row["parameters"] is None
    assert "not defined on models of family 'swin'" in row["refused"]
