"""Adapter folders that peft itself loads, with the outputs of the adapted model."""

from pathlib import Path

import pytest
import torch

from pace_tune.errors import UnsupportedError
from pace_tune.methods.adapted import Adapted, adapt
from pace_tune.methods.export_peft import export_peft
from pace_tune.registry import methods
from tests.methods.test_contract import SMALL, logits, moved
from tests.methods.tiny_models import inputs_of, model_of

FAMILIES = ("vit", "roberta", "llama")
QUICK = ("peft:lora", "peft:oft", "peft:boft", "peft:coft", "peft:ia3", "peft:lily", "peft:vera", "peft:ln_tuning")
CASES = [
    ("lora", {"rank": 3, "alpha": 6.0}),
    ("lora", {"rank": 3, "targets": "qv"}),
    ("lora", {"rank": 2, "targets": "all"}),
    ("vera", {"rank": 6, "targets": "attn_out,mlp_in", "projection_seed": 5}),
    *[pytest.param(n, SMALL.get(n, {}), marks=[] if n in QUICK else [pytest.mark.slow]) for n in methods.names() if n.startswith("peft:")],
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "fields"), CASES)
def test_peft_loads_it_with_equal_outputs(tmp_path: Path, name: str, fields: dict, family: str):
    from peft import PeftModel

    adapted = moved(adapt(model_of(family, dtype=torch.float32), name, seed=3, **fields))
    inputs = inputs_of(family, dtype=torch.float32)
    with torch.no_grad():
        expected = adapted(**inputs)
        export_peft(adapted, tmp_path)
        assert torch.equal(adapted(**inputs), expected), "exporting changed the model"
        loaded = PeftModel.from_pretrained(model_of(family, dtype=torch.float32), str(tmp_path)).eval()
        torch.testing.assert_close(logits(loaded, inputs), expected, rtol=0, atol=2e-5)
    assert (tmp_path / "adapter_config.json").is_file()
    assert (tmp_path / "adapter_model.safetensors").is_file()


def test_one_lane_of_several(tmp_path: Path):
    from peft import PeftModel

    lanes = [methods.build({"name": "lora", "rank": rank}) for rank in (2, 5)]
    adapted = Adapted(model_of("vit", dtype=torch.float32), [lanes[0]] * 2, keep_head=True, seeds=(0, 1))
    adapted.set_lanes(lanes, [adapted.fresh_lane(lane, torch.Generator().manual_seed(4)) for lane in lanes])
    moved(adapted)
    # What pads a narrow lane stays zero in training; here it was moved with the rest.
    adapted.set_lanes(lanes, [adapted.lane_values(lane) for lane in range(2)])
    x = inputs_of("vit", dtype=torch.float32)["x"]
    export_peft(adapted, tmp_path, lane=1)
    loaded = PeftModel.from_pretrained(model_of("vit", dtype=torch.float32), str(tmp_path)).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), adapted(torch.cat([x, x])).chunk(2)[1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["lora_add", "ssf", "adapter_pfeiffer", "noah"])
def test_what_peft_does_not_know_is_refused(tmp_path: Path, name: str):
    adapted = adapt(model_of("vit", dtype=torch.float32), name)
    with pytest.raises(UnsupportedError, match="none of peft's"):
        export_peft(adapted, tmp_path)
    assert not list(tmp_path.iterdir())


def test_rows_of_vera_are_refused(tmp_path: Path):
    adapted = adapt(model_of("vit", dtype=torch.float32), "vera", rank=4, targets="qv")
    with pytest.raises(UnsupportedError, match="whole layers"):
        export_peft(adapted, tmp_path)
