"""The last block for the class token alone: the same logits and gradients as from all tokens, and only where the head reads no other."""

import pytest
import torch
from torch import Tensor, nn

from pace_tune.methods.adapted import Adapted, remove
from tests.methods.test_contract import adapted_of, loss_of, method_of, moved, params, precision, step, tolerance
from tests.methods.tiny_models import CLASSES, inputs_of


@pytest.mark.parametrize(("name", "family"), params(("vit", "hf_vit", "roberta")))
def test_the_class_token_alone_equals_all_tokens(name: str, family: str):
    narrow, whole = moved(adapted_of(name, family)), moved(adapted_of(name, family))
    whole.keeps_tokens = True
    inputs = inputs_of(family, dtype=precision(name))
    size = max(1e-12, tolerance(name))
    torch.testing.assert_close(narrow(**inputs), whole(**inputs), rtol=0, atol=size)
    torch.testing.assert_close(step(narrow, inputs, [3]), step(whole, inputs, [3]), rtol=0, atol=size)
    for key, grad in narrow.lane_values(0, matrix_KP=narrow.bank.grads_KP).items():
        torch.testing.assert_close(grad, whole.lane_values(0, matrix_KP=whole.bank.grads_KP)[key], rtol=1e-8, atol=size, msg=key)


def tokens_after(adapted: Adapted, block: str, inputs: dict[str, Tensor]) -> list[int]:
    """How many tokens came out of a block in a pass for logits, and in a pass of the model by itself."""
    seen: list[int] = []
    handle = adapted.model.get_submodule(block).register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    adapted(**inputs)
    adapted.model(**inputs)
    handle.remove()
    return seen


@pytest.mark.parametrize(("family", "block"), [("vit", "blocks."), ("hf_vit", "vit.layers."), ("roberta", "roberta.encoder.layer.")])
def test_only_the_last_block_of_a_pass_for_logits_is_narrow(family: str, block: str):
    adapted, inputs = adapted_of("lora_add", family), inputs_of(family)
    first, last = (tokens_after(adapted, f"{block}{i}", inputs) for i in range(2))
    assert last == [1, first[0]]
    assert first[0] == first[1] > 1
    plain = type(remove(adapted).get_submodule(f"{block}1"))
    assert "Narrow" not in plain.__name__


def small_vit(**settings: object) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": CLASSES}
    return VisionTransformer(**{**sizes, **settings}).double()


def all_tokens(model: nn.Module) -> bool:
    """Whether the last block of a model gave all tokens in a pass for logits."""
    adapted = model if isinstance(model, Adapted) else Adapted(model, [method_of("lora_add")])
    return tokens_after(adapted, "blocks.1", inputs_of("vit"))[0] == 5


def test_a_head_that_reads_all_tokens_gets_them():
    assert not all_tokens(small_vit())
    assert all_tokens(small_vit(global_pool="avg"))


def test_what_is_changed_after_adapting_is_seen():
    adapted = Adapted(small_vit(), [method_of("lora_add")])
    adapted.model.global_pool = "avg"
    assert all_tokens(adapted)


def test_ways_to_attend_that_are_not_known_are_left_alone():
    plain, gated, patched = small_vit(), small_vit(), small_vit()
    plain.blocks[1].attn.fused_attn = False
    gated.blocks[1].attn.gate = nn.Linear(16, 16)
    patched.forward_head = lambda x, pre_logits=False: patched.head(x.mean(dim=1))
    assert all(map(all_tokens, (plain, gated.double(), patched)))


@pytest.mark.parametrize("family", ["vit", "hf_vit", "roberta", "bert"])
def test_a_library_s_own_checkpointing_computes_the_same(family: str):
    inputs, grads = inputs_of(family), []
    for again in (False, True):
        adapted = moved(adapted_of("lora_add", family))
        if again and family == "vit":
            adapted.model.set_grad_checkpointing()
        elif again:
            adapted.model.gradient_checkpointing_enable()
        adapted.eval() if family == "vit" else adapted.train()
        for module in adapted.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        loss_of(adapted(**inputs)).backward()
        grads.append(adapted.bank.grads_KP.clone())
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-12)


def test_long_feeds_that_are_cut_compute_the_same():
    adapted = moved(adapted_of("lora_add", "bert"))
    inputs = inputs_of("bert")
    before = adapted(**inputs)
    adapted.model.bert.encoder.layer[1].chunk_size_feed_forward = inputs["input_ids"].shape[1]
    torch.testing.assert_close(adapted(**inputs), before, rtol=0, atol=1e-12)
