"""Whatever a manifest or an annotation list holds, the answer is examples or lines that say what is wrong, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pace_tune.benchmarks.image_task import read_list
from pace_tune.benchmarks.own_data import class_names, numbered
from pace_tune.benchmarks.tables import read_tables
from pace_tune.errors import PaceTuneError
from pace_tune.registry import tasks

FEW, MANY = 60, 700
names = st.one_of(
    st.sampled_from(
        ["a.png", "b c.png", "../outside.png", "/etc/passwd", ".", "..", "a\0b", "x" * 300, "", "²", "~/a", "deep/../../outside.png"]
    ),
    st.text(max_size=8),
)
labels = st.one_of(st.integers(-2, 9).map(str), st.sampled_from(["²", "--3", "1e3", "0x1", "NaN", "٣"]), st.text(max_size=4))
lines = st.lists(st.tuples(names, st.sampled_from([" ", "  ", "\t", ""]), labels).map("".join), max_size=6)
texts = st.one_of(st.text(max_size=80), st.lists(st.text(alphabet='a",;{}[]:1\t \\\r', max_size=12), max_size=5).map("\n".join))
encoded = st.one_of(st.one_of(texts, lines.map("\n".join)).map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=60))
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), names)
objects = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)), max_leaves=6
)
records = st.lists(st.dictionaries(st.sampled_from(["text", "label", "other"]), objects, max_size=3), max_size=4)
record_lines = records.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lists")
    (made / "outside.png").write_bytes(b"")
    images = made / "images"
    (images / "deep").mkdir(parents=True)
    for name in ("a.png", "b c.png"):
        (images / name).write_bytes(b"")
    return made


def check_problems(problems: list[str]) -> None:
    assert all(isinstance(line, str) and line.strip() and "Traceback" not in line for line in problems)


def check_list(folder: Path, content: bytes) -> None:
    (folder / "list.txt").write_bytes(content)
    problems: list[str] = []
    items = read_list(folder / "list.txt", images=folder / "images", problems=problems)
    check_problems(problems)
    assert all(item.source.path in {folder / "images" / name for name in ("a.png", "b c.png")} for item in items)  # type: ignore[attr-defined]


def check_fgvc(folder: Path, content: bytes) -> None:
    place = folder / "fgvc" / "CUB_200_2011"
    (place / "images").mkdir(parents=True, exist_ok=True)
    for part in ("train", "val", "test"):
        (place / f"{part}.json").write_bytes(content)
    problems: list[str] = []
    try:
        tasks.build("cub").listed("train+val", root=folder, problems=problems)
    except PaceTuneError as error:
        problems.append(str(error))
    check_problems(problems)


def check_table(folder: Path, content: bytes, *, ending: str) -> None:
    path = folder / f"table{ending}"
    path.write_bytes(content)
    problems: list[str] = []
    table = read_tables([path], columns=["text", "label"], problems=problems)
    try:
        found = class_names(table.columns["label"])
        numbered(table.columns["label"], names=found, where=table.where, problems=problems)
    except PaceTuneError as error:
        problems.append(str(error))
    check_problems(problems)


def check_folder_task(folder: Path, content: bytes) -> None:
    (folder / "images" / "train.txt").write_bytes(content)
    problems: list[str] = []
    try:
        tasks.build({"name": "folder", "path": str(folder / "images")}).listed("train", root=None, problems=problems)
    except PaceTuneError as error:
        problems.append(str(error))
    check_problems(problems)


CASES: dict[str, tuple[Callable[[Path, bytes], None], st.SearchStrategy[bytes]]] = {
    "list": (check_list, st.one_of(lines.map(lambda each: "\n".join(each).encode("utf-8", "surrogatepass")), encoded)),
    "folder": (check_folder_task, st.one_of(lines.map(lambda each: "\n".join(each).encode("utf-8", "surrogatepass")), encoded)),
    "fgvc": (check_fgvc, st.one_of(st.dictionaries(names, objects, max_size=4).map(lambda each: json.dumps(each).encode()), encoded)),
    "jsonl": (lambda folder, content: check_table(folder, content, ending=".jsonl"), st.one_of(record_lines, encoded)),
    "csv": (lambda folder, content: check_table(folder, b"text,label\n" + content, ending=".csv"), encoded),
    "tsv": (lambda folder, content: check_table(folder, content, ending=".tsv"), encoded),
    "parquet": (lambda folder, content: check_table(folder, content, ending=".parquet"), encoded),
}


def fuzz(kind: str, folder: Path, examples: int) -> None:
    body, strategy = CASES[kind]
    quiet = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    quiet(given(strategy)(lambda content: body(folder, content)))()


@pytest.mark.parametrize("kind", CASES)
def test_no_list_ends_in_a_traceback(kind: str, folder: Path):
    fuzz(kind, folder, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", CASES)
def test_five_thousand_lists(kind: str, folder: Path):
    fuzz(kind, folder, MANY)


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "deep/../../outside.png"])
def test_a_list_cannot_name_what_lies_outside_of_its_images(folder: Path, name: str):
    name = str(folder / "outside.png") if name.startswith("/") else name
    (folder / "list.txt").write_text(f"a.png 0\n{name} 1\n")
    problems: list[str] = []
    items = read_list(folder / "list.txt", images=folder / "images", problems=problems)
    assert [item.label for item in items] == [0]
    assert problems == [f"{folder / 'list.txt'}:2: names {name}, which is not in {folder / 'images'}."]
