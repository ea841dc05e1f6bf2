"""The same fine-tuning twice: our engine's `lora` on a tiny BERT, and peft's LoRA with the same numbers on the same BERT."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import generator
from pace_tune.methods.export_peft import export_peft
from pace_tune.registry import methods
from tests.methods.tiny_models import model_of

Pair = tuple[Adapted, Any]


def twins(folder: Path, *, family: str = "bert", dtype: torch.dtype = torch.float32) -> Pair:
    """An adapted model, and a peft model that computes the same."""
    from peft import PeftModel

    # Peft adapts whole layers only, and a timm ViT makes q, k and v in one.
    method = methods.build({"name": "lora", "rank": 2, "targets": "attn_out,mlp_in" if family == "vit" else "q,v"})
    adapted = Adapted(model_of(family, dtype=dtype), [method], keep_head=True)
    values = adapted.fresh_lane(method, generator(0))
    noise = generator(1)
    adapted.set_lanes([method], [{key: v + 0.3 * torch.randn(v.shape, generator=noise) for key, v in values.items()}])
    export_peft(adapted, folder)
    carrying: nn.Module = PeftModel.from_pretrained(model_of(family, dtype=dtype), str(folder), is_trainable=True)
    return adapted.eval(), carrying
