"""Adapter folders of peft come back as the parameters that were written, ours and peft's own."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pace_tune.errors import ConfigError, DataError
from pace_tune.methods.adapted import Adapted, adapt
from pace_tune.methods.export_peft import export_peft
from pace_tune.methods.import_peft import WEIGHTS, import_peft
from pace_tune.registry import methods
from tests.methods.test_contract import moved
from tests.methods.test_export_peft import CASES, FAMILIES
from tests.methods.tiny_models import inputs_of, model_of


def imported(adapted: Adapted, folder) -> dict[str, torch.Tensor]:
    config = json.loads((folder / "adapter_config.json").read_text())
    return import_peft(adapted, folder, method=adapted.methods[0], config=config)


SHARING = {"peft:tinylora", "peft:unilora", "peft:vblora"}
"""Their layers share vectors, which peft keeps once a model."""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "fields"), CASES)
def test_what_was_written_is_read(tmp_path, name, fields, family):
    written = moved(adapt(model_of(family, dtype=torch.float32), name, seed=3, **fields))
    export_peft(written, tmp_path)
    fresh = adapt(model_of(family, dtype=torch.float32), name, seed=4, **fields)
    if name in SHARING:
        with pytest.raises(ConfigError, match="elsewhere; start from the folder of its run instead"):
            imported(fresh, tmp_path)
        return
    found, expected = imported(fresh, tmp_path), written.lane_values(0)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)


def test_an_adapter_that_peft_made_gives_its_outputs(tmp_path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        model_of("roberta", dtype=torch.float32), LoraConfig(r=3, lora_alpha=6, target_modules=["query", "value"])
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(tmp_path))
    adapted = adapt(model_of("roberta", dtype=torch.float32), "lora", rank=3, alpha=6.0, targets="qv")
    adapted.set_lanes([adapted.methods[0]], [adapted.lane_values(0) | imported(adapted, tmp_path)])
    inputs = inputs_of("roberta", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(adapted(**inputs), model(**inputs).logits, rtol=0, atol=2e-5)


def test_rows_that_the_method_leaves_alone_are_refused(tmp_path):
    written = moved(adapt(model_of("vit", dtype=torch.float32), "lora", rank=4, targets="qkv"))
    export_peft(written, tmp_path)
    with pytest.raises(ConfigError, match=r"changes rows of .*qkv that this method does not"):
        imported(adapt(model_of("vit"), "lora", rank=2, targets="qv"), tmp_path)


def test_places_scale_and_weights_that_are_not_theirs_are_named(tmp_path):
    export_peft(adapt(model_of("llama", dtype=torch.float32), "lora", rank=2, alpha=4.0, targets="qv"), tmp_path)
    with pytest.raises(ConfigError, match=r"has nothing for model\.layers\.0\..*o_proj"):
        imported(adapt(model_of("llama"), "lora", rank=2, alpha=4.0, targets="attn_out"), tmp_path)
    with pytest.raises(ConfigError, match=r"scales by alpha / rank = 1, but the adapter in .* by 2\."):
        imported(adapt(model_of("llama"), "lora", rank=2, targets="qv"), tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    (tmp_path / WEIGHTS).write_bytes(b"x")
    with pytest.raises(DataError, match="cannot be read"):
        imported(adapt(model_of("llama"), "lora", rank=2, alpha=4.0, targets="qv"), tmp_path)
    save_file(weights, tmp_path / WEIGHTS)
    assert methods.get("lora").peft_type == "LORA"
