"""Data sets as the `datasets` library leaves them on disk, read without it: `save_to_disk` folders and Parquet repositories."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pace_tune.benchmarks.own_data import OTHER_NAMES
from pace_tune.errors import DataError


@dataclass(frozen=True)
class HubFiles:
    """A data set's files.

    Args:
        path: Folder of a saved data set or dictionary of them, or of Parquet files named after their splits.

    Example:
        ``HubFiles(Path("imdb")).class_names("label")``
    """

    path: Path

    def split_names(self) -> dict[str, str]:
        """Return our names of the splits that are there, and what they are called."""
        if (self.path / "dataset_dict.json").is_file():
            there = json.loads((self.path / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        elif (self.path / "state.json").is_file():
            return {"train": ""}  # one data set without splits
        else:
            there = sorted({file.name.split("-")[0].removesuffix(".parquet") for file in self._parquet()})
        if not there:
            raise DataError(f"{self.path}: is neither a saved data set (dataset_dict.json or state.json) nor a folder of Parquet files.")
        found = {ours: next((name for name in names if name in there), None) for ours, names in OTHER_NAMES.items()}
        return {ours: name for ours, name in found.items() if name is not None}

    def rows(self, split: str, columns: Iterable[str]) -> list[dict[str, Any]]:
        """Return some columns of a split, row by row.

        Raises:
            DataError: A column or a file is missing.
        """
        import pyarrow as pa

        name, columns = self._called(split), list(columns)
        rows: list[dict[str, Any]] = []
        for file in self._files(name):
            try:
                table = self._table(file)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{file}: cannot be read as a data set: {str(error).splitlines()[0]}") from error
            missing = [column for column in columns if column not in table.column_names]
            if missing:
                raise DataError(f"{file}: lacks the column {missing[0]!r}; it has {', '.join(table.column_names)}.")
            rows.extend(table.select(columns).to_pylist())
        return rows

    def class_names(self, column: str) -> tuple[str, ...]:
        """Return the class names that the data set declares for a column; () where it declares none."""
        feature = self._features().get(column, {})
        return tuple(feature.get("names", ())) if feature.get("_type") == "ClassLabel" else ()

    def _called(self, split: str) -> str:
        names = self.split_names()
        if split not in names:
            raise DataError(f"{self.path}: has no {split} split; it has {', '.join(names.values()) or 'none'}.")
        return names[split]

    def _files(self, name: str) -> list[Path]:
        folder = self.path / name if name else self.path
        if (folder / "state.json").is_file():
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            return [folder / entry["filename"] for entry in state["_data_files"]]
        return [file for file in self._parquet() if file.name.split("-")[0].removesuffix(".parquet") == name]

    def _parquet(self) -> list[Path]:
        return sorted([*self.path.glob("*.parquet"), *self.path.glob("data/*.parquet")])

    def _table(self, file: Path) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        if file.suffix == ".parquet":
            return parquet.read_table(file)
        with pa.memory_map(str(file)) as source:
            return pa.ipc.open_stream(source).read_all()

    def _features(self) -> dict[str, Any]:
        file = self._files(self._called("train"))[0]
        info = file.parent / "dataset_info.json"
        if file.suffix != ".parquet":
            return dict(json.loads(info.read_text(encoding="utf-8")).get("features") or {}) if info.is_file() else {}
        from pyarrow import parquet

        metadata = parquet.read_schema(file).metadata or {}
        return dict(json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {}))
