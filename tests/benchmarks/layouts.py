"""Tiny data sets in the published layouts, made by the tests that read them."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pace_tune.models.backbone import InputSpec

SPEC = InputSpec.image(16, normalisation="half")


def png(path: Path, *, seed: int = 0, size: tuple[int, int] = (20, 24)) -> Path:
    """Write a picture of noise; PNG whatever the ending says, as mislabelled copies are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(seed=seed, size=size))
    return path


def png_bytes(*, seed: int = 0, size: tuple[int, int] = (20, 24)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def image_list(folder: Path, file: str, lines: list[tuple[str, int]], *, images: Path | None = None, first_seed: int = 0) -> Path:
    """Write a `path label` list and its pictures."""
    for number, (name, _) in enumerate(lines):
        png((images or folder) / name, seed=first_seed + number)
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {label}\n" for name, label in lines))
    return path


def vtab(root: Path, task: str = "kitti", *, classes: int = 4) -> Path:
    """VTAB-1k with 8, 4, 12 and 5 images; the last class is missing from val."""
    folder = root / "vtab-1k" / task
    for seed, (split, count, last) in enumerate(
        [("train800", 8, classes), ("val200", 4, classes - 1), ("train800val200", 12, classes), ("test", 5, classes)]
    ):
        lines = [(f"images/{split}/{i:06d}.jpg", i % last) for i in range(count)]
        image_list(folder, f"{split}.txt", lines, first_seed=100 * seed)
    return folder


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
