"""One tiny model with random weights for each architecture family, and inputs for it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 3
WORDS = 40
BATCH = 4


def vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=CLASSES, drop_path_rate=0.1)


def swin() -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=16, patch_size=2, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4, num_classes=CLASSES, drop_path_rate=0.1
    )


def _bert_like(config: type, model: type) -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 20}
    return model(config(**sizes, vocab_size=WORDS, num_labels=CLASSES, pad_token_id=1))


def hf_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=CLASSES))


def roberta() -> nn.Module:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    return _bert_like(RobertaConfig, RobertaForSequenceClassification)


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return _bert_like(BertConfig, BertForSequenceClassification)


def _decoder(config: type, model: type) -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return model(config(**sizes, **tokens, vocab_size=WORDS, max_position_embeddings=20, use_cache=False))


def phi3() -> nn.Module:
    from transformers import Phi3Config, Phi3ForCausalLM

    return _decoder(Phi3Config, Phi3ForCausalLM)


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return _decoder(LlamaConfig, LlamaForCausalLM)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "vit": vit,
    "swin": swin,
    "hf_vit": hf_vit,
    "roberta": roberta,
    "bert": bert,
    "phi3": phi3,
    "llama": llama,
}


def model_of(family: str, *, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A model whose weights are the same at every call, large enough for its layers to matter."""
    torch.manual_seed(0)
    model = MODELS[family]().eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "embed" not in name:
            nn.init.normal_(parameter, std=0.3)
        elif "norm" not in name.lower():
            nn.init.normal_(parameter, std=0.1)
    return model.to(dtype)


def inputs_of(family: str, *, batch: int = BATCH, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Tensor]:
    """Arguments of the model; texts are of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    if family in ("vit", "swin"):
        return {"x": torch.randn(batch, 3, 16, 16, generator=generator, dtype=torch.float64).to(dtype)}
    if family == "hf_vit":
        return {"pixel_values": torch.randn(batch, 3, 16, 16, generator=generator, dtype=torch.float64).to(dtype)}
    mask = torch.ones(batch, 6, dtype=torch.long)
    mask[1::2, 4:] = 0
    ids = torch.randint(3, WORDS, (batch, 6), generator=generator)
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}
