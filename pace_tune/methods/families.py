"""Names of the modules of each architecture family: one row of data a family, patterns that match whole names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """Names of one architecture family.

    Attributes:
        block: Matches a block's module name; its groups are the numbers that order it.
        roles: Role -> module name relative to the block.
        marker: A module that a block must hold, where block names alone do not tell two families apart.
        linears: Matches further linear layers that methods adapt, with the numbers of the block that they count as.
        head: Names of the classification head, first match wins; () where the output layer is the language model's own.
        head_parts: Layers before the head that are as new as it is, and train fully with it.
        final_norm: Norm after the last block.
        patch: Patch embedding.
        embed: Module after the position embedding, where a delta of the embedded tokens goes.
        embedded: Parameters that are added to the tokens there: what they are -> their names in the model.
        post_norm: Whether norms follow the residual sums, so that a norm's output is the residual stream itself.
        causal: Whether tokens see only what is before them, with positions that their place in the sequence gives.
    """

    block: str
    roles: Mapping[str, str]
    marker: str = ""
    linears: str = ""
    head: tuple[str, ...] = ()
    head_parts: tuple[str, ...] = ()
    final_norm: str = ""
    patch: str = ""
    embed: str = ""
    embedded: Mapping[str, str] = field(default_factory=dict)
    first_block_quiet: bool = False
    """Whether sigma is 0 in block 0 (the released code does so on ViT and not on Swin)."""
    post_norm: bool = False
    causal: bool = False


_TIMM_ROLES = {
    "qkv": "attn.qkv",
    "attn_out": "attn.proj",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
    "attn": "attn",
    "mlp": "mlp",
}

_BERT_ROLES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "attn_out": "attention.output.dense",
    "mlp_in": "intermediate.dense",
    "mlp_out": "output.dense",
    "norm1": "attention.output.LayerNorm",
    "norm2": "output.LayerNorm",
    "mlp_tail": "output",
}

_DECODER_ROLES = {
    "attn_out": "self_attn.o_proj",
    "mlp_out": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "attn": "self_attn",
    "mlp": "mlp",
}

FAMILIES: dict[str, Family] = {
    "vit": Family(
        block=r"blocks\.(\d+)",
        roles=_TIMM_ROLES,
        head=("head",),
        final_norm="norm",
        patch="patch_embed.proj",
        embed="pos_drop",
        embedded={"pos_embed": "pos_embed", "cls_token": "cls_token"},
        first_block_quiet=True,
    ),
    "swin": Family(
        block=r"layers\.(\d+)\.blocks\.(\d+)",
        roles=_TIMM_ROLES,
        head=("head.fc",),
        linears=r"layers\.(\d+)\.downsample\.reduction",
        final_norm="norm",
        patch="patch_embed.proj",
    ),
    "hf_vit": Family(
        block=r"vit\.layers\.(\d+)",
        roles={
            "q": "attention.q_proj",
            "k": "attention.k_proj",
            "v": "attention.v_proj",
            "attn_out": "attention.o_proj",
            "mlp_in": "mlp.fc1",
            "mlp_out": "mlp.fc2",
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "attn": "attention",
            "mlp": "mlp",
        },
        head=("classifier",),
        final_norm="vit.layernorm",
        patch="vit.embeddings.patch_embeddings.projection",
        embed="vit.embeddings.dropout",
        embedded={"pos_embed": "vit.embeddings.position_embeddings", "cls_token": "vit.embeddings.cls_token"},
        first_block_quiet=True,
    ),
    "roberta": Family(
        block=r"roberta\.encoder\.layer\.(\d+)",
        roles=_BERT_ROLES,
        head=("classifier.out_proj",),
        head_parts=("classifier.dense",),
        post_norm=True,
    ),
    "bert": Family(block=r"bert\.encoder\.layer\.(\d+)", roles=_BERT_ROLES, head=("classifier",), post_norm=True),
    "phi3": Family(
        block=r"model\.layers\.(\d+)",
        marker="self_attn.qkv_proj",
        roles={**_DECODER_ROLES, "qkv": "self_attn.qkv_proj", "mlp_in": "mlp.gate_up_proj"},
        head=("score",),
        final_norm="model.norm",
        causal=True,
    ),
    "llama": Family(
        block=r"model\.layers\.(\d+)",
        marker="self_attn.q_proj",
        roles={
            **_DECODER_ROLES,
            "q": "self_attn.q_proj",
            "k": "self_attn.k_proj",
            "v": "self_attn.v_proj",
            "mlp_in": "mlp.up_proj",
            "gate": "mlp.gate_proj",
        },
        head=("score",),
        final_norm="model.norm",
        causal=True,
    ),
}
