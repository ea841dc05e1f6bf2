"""The last block for the class token alone, where the head reads no other token.

Its attention still sees every token as key and value. Attention's output, MLP, and the deltas and noise of them are computed for
one token instead of all: three quarters of the block's products. Logits and gradients are those of the full pass, to which an
output that nobody reads gives nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pace_tune.methods.context import LaneContext
from pace_tune.methods.layout import Layout

Narrow = Callable[[Any], Any]
"""Makes of a class one that computes the class token alone where that is all that is read."""


PASS = {"forward", "forward_features", "forward_head", "pool"}
"""Methods that somebody who wants another pass puts others over."""


@dataclass(frozen=True)
class Kind:
    """A class of models whose forward pass is known.

    Attributes:
        parts: What of the last block changes: name below the block -> its class, and how. What is derived from these classes may do
            anything else, and is left alone.
        reads: Says of a model and its last block whether the class token is all that is read, and the block is run as is known here.
    """

    parts: Mapping[str, tuple[str, Narrow]]
    reads: Callable[[Any, Any], bool]


class Narrowed:
    """The last block of a model, able to compute the class token alone.

    Args:
        model: Changed in place if its kind is known; else left as it is.
        context: Says, pass by pass, whether no other token is read.
    """

    def __init__(self, model: nn.Module, layout: Layout, context: LaneContext) -> None:
        self.kinds: dict[str, type[nn.Module]] = {}
        blocks = list(layout.role("block"))
        self._kind = NARROW.get(_name(model))
        if not blocks or self._kind is None or PASS & vars(model).keys():
            return
        last = max(blocks, key=lambda place: place.level)
        self._block = last.module
        modules = {f"{last.name}{below}": last.module.get_submodule(below[1:]) for below in self._kind.parts}
        if [_name(module) for module in modules.values()] != [name for name, _ in self._kind.parts.values()]:
            return
        for (name, module), (_, narrow) in zip(modules.items(), self._kind.parts.values(), strict=True):
            self.kinds[name] = type(module)
            module.__dict__["reader"] = context
            module.__class__ = narrow(type(module))

    def allowed(self, model: nn.Module) -> bool:
        """Whether the model reads the class token alone, as it is set now: heads and ways to attend may be changed at any time."""
        return bool(self.kinds) and self._kind is not None and self._kind.reads(model, self._block)

    def take_out(self, model: nn.Module) -> None:
        """Give a model, or a copy of it, its classes back; one that got another class since keeps it."""
        for name, kind in self.kinds.items():
            module = model.get_submodule(name)
            if type(module).__mro__[1] is kind:
                module.__class__ = kind
                del module.__dict__["reader"]


def _timm_reads(model: Any, block: Any) -> bool:
    pools = model.global_pool == "token" and model.cls_token is not None and getattr(model, "attn_pool", None) is None
    attends = block.attn.fused_attn and getattr(block.attn, "gate", None) is None
    return bool(pools and attends and not model.grad_checkpointing)


def _bert_reads(_: Any, block: Any) -> bool:
    return block.chunk_size_feed_forward <= 1 and not _runs_again(block)


def _hf_vit_reads(model: Any, block: Any) -> bool:
    return model.config._attn_implementation == "sdpa" and not _runs_again(block)


def _runs_again(block: Any) -> bool:
    """Whether transformers runs a block again in the backward pass, outside of the pass that says what is read."""
    return bool(getattr(block, "gradient_checkpointing", False) and block.training)


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
NARROW: dict[str, Kind] = {
    f"{_TIMM}.VisionTransformer": Kind(
        {"": (f"{_TIMM}.Block", _timm_block), ".attn": ("timm.layers.attention.Attention", _timm_attention)}, _timm_reads
    ),
    f"{_VIT}ForImageClassification": Kind(
        {"": (f"{_VIT}Layer", _hf_vit_layer), ".attention": (f"{_VIT}Attention", _hf_vit_attention)}, _hf_vit_reads
    ),
    **{
        f"{bert}ForSequenceClassification": Kind({".attention.output": (f"{bert}SelfOutput", _bert_attention_end)}, _bert_reads)
        for bert in _BERTS
    },
}
"""Class of a model -> its kind."""
