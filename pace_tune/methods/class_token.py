"""The last block for the class token alone, where the head reads no other token.

Its attention still sees every token as key and value. Attention's output, MLP, and the deltas and noise of them are computed for
one token instead of all: three quarters of the block's products. Logits and gradients are those of the full pass, to which an
output that nobody reads gives nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pace_tune.methods.context import LaneContext
from pace_tune.methods.layout import Layout

Kinds = dict[str, type[nn.Module]]
"""Module name -> its class."""
Narrow = Callable[[Any], Any]
"""Makes of a class one that computes the class token alone where that is all that is read."""


def narrow_last_block(model: nn.Module, layout: Layout, context: LaneContext) -> Kinds:
    """Let a model's last block compute the class token alone wherever `context` says that no other is read.

    Args:
        model: Changed in place if its classes are known (see `NARROW`) and its head reads the class token; else left as it is.

    Returns:
        The classes of what was changed, for `widen`.
    """
    blocks = list(layout.role("block"))
    known = NARROW.get(_name(model), {})
    if not blocks or not known or not _reads_class_token(model):
        return {}
    last = max(blocks, key=lambda place: place.level)
    modules = {f"{last.name}{below}": last.module.get_submodule(below[1:]) for below in known}
    if [_name(module) for module in modules.values()] != [name for name, _ in known.values()]:
        return {}
    kinds = {name: type(module) for name, module in modules.items()}
    for module, (_, narrow) in zip(modules.values(), known.values(), strict=True):
        module.__dict__["reader"] = context
        module.__class__ = narrow(type(module))
    return kinds


def widen(model: nn.Module, kinds: Kinds) -> None:
    """Take `narrow_last_block` back."""
    for name, kind in kinds.items():
        module = model.get_submodule(name)
        module.__class__ = kind
        module.__dict__.pop("reader", None)


def _reads_class_token(model: Any) -> bool:
    if not hasattr(model, "global_pool"):  # those of transformers always do
        return True
    return model.global_pool == "token" and model.cls_token is not None and getattr(model, "attn_pool", None) is None


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _narrowing(forward: Callable[..., Any]) -> Narrow:
    """Return what makes a subclass with this forward pass; it takes over where the class token alone is read."""

    # Subclasses and not patched methods: copies of the model then call themselves and not the original.
    @cache
    def narrow(kind: Any) -> Any:
        def either(self: Any, *args: Any, **kwargs: Any) -> Any:
            return (forward if self.reader.class_token_alone else kind.forward)(self, *args, **kwargs)

        return type(f"Narrow{kind.__name__}", (kind,), {"forward": either, "__doc__": kind.__doc__})

    return narrow


@_narrowing
def _timm_block(self: Any, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    x = x[:, :1] + self.drop_path1(self.ls1(self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)))
    return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))  # type: ignore[no-any-return]


@_narrowing
def _timm_attention(self: Any, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Any:
    rows, tokens, _ = x.shape
    q, k, v = self.qkv(x).view(rows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    if is_causal:  # then it sees itself alone
        k, v = k[:, :, :1], v[:, :, :1]
    mask = None if attn_mask is None else attn_mask[..., :1, :]
    dropout = self.attn_drop.p if self.training else 0.0
    out = F.scaled_dot_product_attention(self.q_norm(q[:, :, :1]), self.k_norm(k), v, attn_mask=mask, dropout_p=dropout)
    return self.proj_drop(self.proj(self.norm(out.transpose(1, 2).reshape(rows, 1, -1))))


@_narrowing
def _bert_attention_end(self: Any, hidden_states: Tensor, input_tensor: Tensor) -> Any:
    return self.LayerNorm(self.dropout(self.dense(hidden_states[:, :1])) + input_tensor[:, :1])


@_narrowing
def _hf_vit_layer(self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Tensor:
    attended, _ = self.attention(self.layernorm_before(hidden_states), attention_mask)
    x = hidden_states[:, :1] + self.dropout(attended)
    return x + self.dropout(self.mlp(self.layernorm_after(x)))  # type: ignore[no-any-return]


@_narrowing
def _hf_vit_attention(self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> tuple[Tensor, None]:
    rows = len(hidden_states)
    inputs = ((self.q_proj, hidden_states[:, :1]), (self.k_proj, hidden_states), (self.v_proj, hidden_states))
    q, k, v = (project(x).view(rows, x.shape[1], -1, self.head_dim).transpose(1, 2) for project, x in inputs)
    mask = None if attention_mask is None else attention_mask[..., :1, :]
    dropout = self.attention_dropout if self.training else 0.0
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scaling)
    return self.o_proj(out.transpose(1, 2).reshape(rows, 1, -1)), None


_TIMM = "timm.models.vision_transformer"
_VIT, *_BERTS = (f"transformers.models.{name.lower()}.modeling_{name.lower()}.{name}" for name in ("ViT", "Bert", "Roberta"))
NARROW: dict[str, Mapping[str, tuple[str, Narrow]]] = {
    f"{_TIMM}.VisionTransformer": {"": (f"{_TIMM}.Block", _timm_block), ".attn": ("timm.layers.attention.Attention", _timm_attention)},
    f"{_VIT}ForImageClassification": {"": (f"{_VIT}Layer", _hf_vit_layer), ".attention": (f"{_VIT}Attention", _hf_vit_attention)},
    **{f"{bert}ForSequenceClassification": {".attention.output": (f"{bert}SelfOutput", _bert_attention_end)} for bert in _BERTS},
}
"""Class of a model -> what of its last block changes: name below the block -> its class, and how. What is derived from these
classes may do anything else, and is left alone."""
