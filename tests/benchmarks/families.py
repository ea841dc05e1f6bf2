"""A tiny copy of every registered task's data, and which of its files are the test split's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from pace_tune.benchmarks import fewshot, fgvc, glue, vtab
from tests.benchmarks import layouts
from tests.benchmarks.layouts import image_list, jsonl, png


@dataclass(frozen=True)
class Tiny:
    """A task on its tiny data.

    Args:
        fields: What a run writes under `task`.
        tests: Files of the test split.
    """

    fields: dict[str, Any]
    tests: tuple[Path, ...]


def make(name: str, root: Path) -> Tiny:
    """Write the data of a registered task below `root`."""
    family, _, member = name.partition("/")
    return MAKERS.get(name, MAKERS.get(family, _nothing))(name, member, root)


def _vtab(name: str, member: str, root: Path) -> Tiny:
    folder = layouts.vtab(root, member, classes=vtab.CLASSES[member])
    return Tiny({"name": name}, tuple((folder / "images" / "test").iterdir()))


def _fewshot(name: str, member: str, root: Path) -> Tiny:
    folder = root / "few-shot" / fewshot.FOLDERS[member][0]
    for seed, part in enumerate(("train_meta.list.num_shot_2.seed_0", "val_meta.list", "test_meta.list")):
        lines = [(f"a b/{part}/{i}.jpg", i % 3) for i in range(4)]
        image_list(folder, f"annotations/{part}", lines, images=folder / "images", first_seed=10 * seed)
    return Tiny({"name": name, "shots": 2}, tuple((folder / "images" / "a b" / "test_meta.list").iterdir()))


def _fgvc(name: str, member: str, root: Path) -> Tiny:
    import json

    dataset = fgvc.DATASETS[member]
    folder = root / dataset.folders[0]
    for part, count in (("train", dataset.classes), ("val", 3), ("test", 2)):
        entries = {f"{part}/im {i}.jpg": i + 1 for i in range(count)}
        for image in entries:
            png(folder / dataset.images / image, size=(4, 4))
        (folder / f"{part}.json").write_text(json.dumps(entries))
    return Tiny({"name": name}, tuple((folder / dataset.images / "test").iterdir()))


def _glue(name: str, member: str, root: Path) -> Tiny:
    facts, folder = glue.TASKS[member], root / "glue" / member
    folder.mkdir(parents=True)
    for part, count, start in (("train", 30, 0), (facts.scored, 6, 100)):
        labels = [i % len(facts.labels) if facts.labels else i % 6 for i in range(count)]
        rows = [{**{c: f"the {c} {start + i}" for c in facts.columns}, "label": label} for i, label in enumerate(labels)]
        parquet.write_table(pa.Table.from_pylist(rows), folder / f"{part}-00000-of-00001.parquet")
    return Tiny({"name": name}, tuple(folder.glob(f"{facts.scored}*")))


def _gsm8k(name: str, member: str, root: Path) -> Tiny:
    def problems(start: int, count: int) -> list[dict[str, str]]:
        return [{"question": f"the cat {i} ran", "answer": f"{i}\n#### {i}"} for i in range(start, start + count)]

    jsonl(root / "gsm8k" / "train.jsonl", problems(0, 12))
    test = jsonl(root / "gsm8k" / "test.jsonl", problems(50, 4))
    return Tiny({"name": name, "val_examples": 3}, (test,))


def _imagenet(name: str, member: str, root: Path) -> Tiny:
    source = root / "few-shot" / "imagenet"
    parts = {"train_meta.list.num_shot_16.seed_0": "train", "unofficial_val_list_4_shot16seed0": "train", "val_meta.list": "val"}
    for seed, (part, place) in enumerate(parts.items()):
        lines = [(f"n0{i}/{part}.JPEG", 333 * i) for i in range(3)]
        image_list(source, f"annotations/{part}", lines, images=source / "images" / place, first_seed=10 * seed)
    tests = [*(source / "images" / "val").rglob("*.JPEG")]
    for seed, target in enumerate(("imagenetv2", "imagenet-sketch", "imagenet-adversarial", "imagenet-rendition")):
        folder = root / "domain-generalization" / target
        image_list(folder, "annotations/val_meta.list", [(f"x y/{i}.jpg", i) for i in range(2)], first_seed=40 + seed)
        tests += (folder / "x y").iterdir()
    return Tiny({"name": name}, tuple(tests))


def _class_folders(folder: Path, *, seed: int) -> list[Path]:
    return [png(folder / label / f"im {i}.png", seed=seed + 10 * n + i) for n, label in enumerate(("cat", "a dog")) for i in range(5)]


def _folder(name: str, member: str, root: Path) -> Tiny:
    _class_folders(root / "photos" / "train", seed=0)
    tests = _class_folders(root / "photos" / "test", seed=50)
    fields: dict[str, Any] = {"name": name, "path": str(root / "photos")}
    if name == "domain/folders":
        tests += _class_folders(root / "drawings", seed=100)
        fields["targets"] = {"drawings": str(root / "drawings")}
    return Tiny(fields, tuple(tests))


def _rows(start: int, count: int) -> list[dict[str, Any]]:
    return [{"text": f"the movie {i}", "label": ["bad", "good"][i % 2]} for i in range(start, start + count)]


def _table(name: str, member: str, root: Path) -> Tiny:
    jsonl(root / "texts" / "train.jsonl", _rows(0, 20))
    return Tiny({"name": name, "path": str(root / "texts")}, (jsonl(root / "texts" / "test.jsonl", _rows(50, 4)),))


def _hub(name: str, member: str, root: Path) -> Tiny:
    folder = root / "saved"
    folder.mkdir()
    for seed, (part, count) in enumerate((("train", 20), ("test", 4))):
        rows = _rows(50 * seed, count)
        if member == "image":
            rows = [{"image": {"bytes": layouts.png_bytes(seed=50 * seed + i)}, "label": row["label"]} for i, row in enumerate(rows)]
        parquet.write_table(pa.Table.from_pylist(rows), folder / f"{part}-00000-of-00001.parquet")
    return Tiny({"name": name, "path": str(folder)}, (folder / "test-00000-of-00001.parquet",))


def _nothing(name: str, member: str, root: Path) -> Tiny:
    return Tiny({"name": name}, ())


MAKERS: dict[str, Callable[[str, str, Path], Tiny]] = {
    "vtab": _vtab,
    "fewshot": _fewshot,
    "fgvc": _fgvc,
    "glue": _glue,
    "gsm8k": _gsm8k,
    "domain/imagenet": _imagenet,
    "domain/folders": _folder,
    "folder": _folder,
    "table": _table,
    "hub": _hub,
}
