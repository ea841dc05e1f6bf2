"""Tables as columns: CSV, JSON lines and Parquet, read with the line of everything that is wrong in them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDINGS = (".parquet", ".csv", ".tsv", ".jsonl", ".json")
TEXT_LINES = (".csv", ".tsv", ".jsonl", ".json")


@dataclass(frozen=True)
class Table:
    """Some columns of one or several files.

    Args:
        columns: Name -> values, all of one length.
        places: (file, line) of each row; rows of Parquet count from 1.
    """

    columns: Mapping[str, Sequence[Any]]
    places: Sequence[tuple[Path, int]]

    def __len__(self) -> int:
        return len(self.places)

    def where(self, row: int) -> str:
        """Return what to call a row in a message: file and line."""
        path, line = self.places[row]
        return f"{path}:{line}" if path.suffix in TEXT_LINES else f"{path}: row {line}"

    def take(self, index: Iterable[int]) -> Table:
        """Return some rows, in the order asked for."""
        rows = list(index)
        return Table({name: [values[i] for i in rows] for name, values in self.columns.items()}, [self.places[i] for i in rows])


def read_tables(paths: Sequence[Path], *, columns: Sequence[str], problems: list[str]) -> Table:
    """Read the same columns of several files, one after the other.

    Args:
        problems: Gets a line for each file that cannot be read or lacks a column, and for each broken line of text.
    """
    gathered: dict[str, list[Any]] = {name: [] for name in columns}
    places: list[tuple[Path, int]] = []
    for path in paths:
        for line, row in _rows(path, columns, problems):
            for name in columns:
                gathered[name].append(row[name])
            places.append((path, line))
    return Table(gathered, places)


def _rows(path: Path, columns: Sequence[str], problems: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    readers = {".parquet": _parquet_rows, ".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _json_rows, ".json": _json_rows}
    if path.suffix not in readers:
        problems.append(f"{path}: a table ends in one of {', '.join(ENDINGS)}.")
        return
    count = 0
    try:
        for line, row in readers[path.suffix](path, columns, problems):
            count += 1
            yield line, row
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        problems.append(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}.")
        return
    if not count and not any(line.startswith(str(path)) for line in problems):
        problems.append(f"{path}: holds no rows.")


def _parquet_rows(path: Path, columns: Sequence[str], problems: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    if _lacks(path, columns, file.schema_arrow.names, problems):
        return
    line = 0
    for batch in file.iter_batches(columns=list(columns)):
        for row in batch.to_pylist():
            line += 1
            yield line, row


def _csv_rows(path: Path, columns: Sequence[str], problems: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        if _lacks(path, columns, reader.fieldnames or (), problems):
            return
        for row in reader:
            if None in row or None in row.values():
                problems.append(f"{path}:{reader.line_num}: has another number of fields than the header.")
                continue
            yield reader.line_num, row


def _json_rows(path: Path, columns: Sequence[str], problems: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except ValueError:
                problems.append(f"{path}:{line}: is no JSON object.")
                continue
            if not isinstance(row, dict):
                problems.append(f"{path}:{line}: is no JSON object.")
            elif not _lacks(path, columns, row, problems, line=line):
                yield line, row


def _lacks(path: Path, columns: Sequence[str], has: Iterable[str], problems: list[str], *, line: int | None = None) -> bool:
    has = list(has)
    missing = [name for name in columns if name not in has]
    if missing:
        where = str(path) if line is None else f"{path}:{line}"
        problems.append(f"{where}: lacks the column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, has)) or 'none'}.")
    return bool(missing)
