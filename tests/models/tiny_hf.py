"""Tiny checkpoints of transformers with random weights and a tokenizer, made by the tests that load them."""

from pathlib import Path

import torch

WORDS = (
    *("[PAD]", "[UNK]", "<s>", "</s>"),
    *("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "good", "bad", "is", "not", "very", "movie"),
    *"#0123456789.,?$+=",
)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": len(WORDS)}
KINDS = ("bert", "roberta", "llama", "phi3")


def vit(folder: Path) -> Path:
    """Write a ViT with random weights and no classifier."""
    import transformers

    sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    torch.manual_seed(0)
    transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=16, patch_size=4)).save_pretrained(folder)
    return folder


def tokenizer(folder: Path) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"[0-9#.,?$+=]"), "isolated"), pre_tokenizers.WhitespaceSplit()]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=64, **special).save_pretrained(folder)


def checkpoint(folder: Path, kind: str) -> Path:
    """Write a model with random weights, as it would come from the hub: without a classification head."""
    import transformers

    tokenizer(folder)
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    classes = {
        "bert": (transformers.BertConfig, transformers.BertModel, {"max_position_embeddings": 64}),
        "roberta": (transformers.RobertaConfig, transformers.RobertaModel, {"max_position_embeddings": 66, "type_vocab_size": 1}),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {"max_position_embeddings": 64, "num_key_value_heads": 2}),
        "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM, {"max_position_embeddings": 64, "num_key_value_heads": 2}),
    }
    config, model, more = classes[kind]
    torch.manual_seed(0)
    model(config(**SIZES, **tokens, **more)).save_pretrained(folder)
    return folder
