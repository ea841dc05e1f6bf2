"""Lane folders as a finished run leaves them, with random numbers instead of trained ones: no training is needed to export."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import generator
from pace_tune.study.run_config import RunConfig
from pace_tune.training.lane_state import LaneState
from tests.benchmarks.layouts import jsonl
from tests.models.tiny_hf import checkpoint, vit

DIGITS = {"task": {"name": "digits", "shots": 2, "val_per_class": 2}, "backbone": "vit_nano_cifar10"}
WORDS = ("the cat sat", "a dog ran on the mat", "good movie", "very bad", "the movie is not good", "a mat")


def run_of(setup: dict[str, Any], method: Any, **optim: Any) -> RunConfig:
    return RunConfig.model_validate({**setup, "method": method, "optim": {"epochs": 3, **optim}, "measure": {"every_epochs": 0}})


def write_lane(folder: Path, run: RunConfig, *, epoch: int = 3, size: float = 0.05) -> Path:
    """Write a lane whose deltas are as large as those of a trained one."""
    torch.manual_seed(0)
    adapted = Adapted(run.backbone.build(num_classes=run.task.num_classes), [run.method])
    values = {key: value + size * torch.randn_like(value) for key, value in adapted.fresh_lane(run.method, generator(1)).items()}
    LaneState(values, epoch=epoch).save(folder / "lane.safetensors", run=run.as_mapping())
    return folder


def photos(folder: Path) -> dict[str, Any]:
    """A folder of pictures that are no squares, cut to their middle."""
    for number, name in enumerate(("cat", "dog", "mat") * 8):
        _smooth(folder / name / f"{number}.png", seed=number, size=(52 + number, 40))
    return {"task": {"name": "folder", "path": str(folder), "resize": "shorter"}, "backbone": "vit_nano_cifar10"}


def problems(folder: Path) -> dict[str, Any]:
    """Sums in words, answered by generation, and a tiny language model."""
    rows = [{"question": f"{i} cat + {i} dog", "answer": f"a cat\n#### {2 * i}"} for i in range(12)]
    jsonl(folder / "gsm8k" / "train.jsonl", rows)
    task = {"name": "gsm8k", "val_examples": 4, "max_new_tokens": 5, "instruction": "the cat sat"}
    backbone = {"name": "hf_causal", "path": str(checkpoint(folder / "llama", "llama")), "max_length": 48}
    return {"task": task, "backbone": backbone, "data": {"root": str(folder)}}


def _smooth(path: Path, *, seed: int, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)


def photos_for_transformers(folder: Path) -> dict[str, Any]:
    """The same pictures and a tiny ViT of transformers."""
    setup = photos(folder / "photos")
    return {**setup, "backbone": {"name": "hf_vit", "path": str(vit(folder / "vit")), "image_size": 16}}


def reviews(folder: Path, *, kind: str = "bert", pairs: bool = False, value: bool = False) -> dict[str, Any]:
    """A table of short texts, or of pairs of them, and a tiny language model."""
    rows = [{"text": WORDS[i % 6], "other": WORDS[(i // 6) % 6], "label": i / 4 if value else ("good", "bad")[i % 2]} for i in range(36)]
    task = {"name": "table", "path": str(jsonl(folder / "train.jsonl", rows)), "text": ["text", "other"] if pairs else ["text"]}
    backbone = {"name": "hf_classifier", "path": str(checkpoint(folder / kind, kind)), "max_length": 16}
    return {"task": {**task, "kind": "value"} if value else task, "backbone": backbone}
