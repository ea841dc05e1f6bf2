"""What a user writes for the layers of a method, and what that is on each family."""

import pytest

from pace_tune.errors import ConfigError, UnsupportedError
from pace_tune.methods.layout import layout_of
from pace_tune.methods.targets import targets_of
from pace_tune.registry import methods
from tests.methods.tiny_models import model_of


def leaves(family: str, text: str) -> list[tuple[str, tuple[str, ...]]]:
    found = targets_of(layout_of(model_of(family)), text, method="lora")
    return [(target.place.name.rpartition(".")[2], tuple(target.rows)) for target in found if target.place.level == 0]


@pytest.mark.parametrize(
    ("family", "text", "expected"),
    [
        ("vit", "qkv", [("qkv", ("",))]),
        ("vit", "qv", [("qkv", ("q", "v"))]),
        ("vit", "q, v", [("qkv", ("q", "v"))]),
        ("vit", "q,mlp_in", [("qkv", ("q",)), ("fc1", ("",))]),
        ("vit", "all", [("qkv", ("",)), ("proj", ("",)), ("fc1", ("",)), ("fc2", ("",))]),
        ("hf_vit", "qv", [("q_proj", ("",)), ("v_proj", ("",))]),
        ("roberta", "qv", [("query", ("",)), ("value", ("",))]),
        ("bert", "attn_out", [("dense", ("",))]),
        ("phi3", "kv", [("qkv_proj", ("k", "v"))]),
        ("llama", "gate,mlp_in", [("gate_proj", ("",)), ("up_proj", ("",))]),
    ],
)
def test_names(family: str, text: str, expected: list):
    assert leaves(family, text) == expected


def test_grouped_keys_and_values_have_fewer_rows():
    layout = layout_of(model_of("phi3"))
    (first, *_) = targets_of(layout, "qv", method="lora")
    assert {part: rows.stop - rows.start for part, rows in first.rows.items()} == {"q": 16, "v": 8}


def test_a_wrong_name_is_one_line_with_what_is_near():
    with pytest.raises(ConfigError, match=r"method\.targets: unknown layers 'mlp_inn'\. Did you mean 'mlp_in'"):
        methods.build({"name": "lora", "targets": "q,mlp_inn"})


def test_layers_that_a_model_lacks():
    with pytest.raises(UnsupportedError, match="adapts gate, and a model of family 'vit' has no such layers"):
        list(targets_of(layout_of(model_of("vit")), "gate", method="lora"))
