"""The study files of a folder as rows of a table."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pace_tune.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "search_spaces"
"""The studies of a checkout."""
STORES = ("mlflow.db", "mlartifacts")
"""What tells the folder of sweeps: all in it was written by the tool."""
MOST_NAMES = 4
"""So many names a table says; of more it says how many there are."""


def study_files(folder: Path) -> list[Path]:
    """Return the YAML files in a folder and below it, without what sweeps and exports wrote there."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        if _written_by_sweeps(folders, files):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += _yaml_files(Path(parent), files)
    return sorted(found)


def studies_here() -> list[Path]:
    """Return one's own studies in this folder, and those in `search_spaces`: here, or of the checkout."""
    names, folder = [path.name for path in Path().iterdir()], Path("search_spaces")
    own = [] if _written_by_sweeps([], names) else sorted(_yaml_files(Path(), names))
    return [*own, *study_files(folder if folder.is_dir() else SHIPPED)]


def study_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return one row per study: its name, what it learns, and how; a file that is no study gives none."""
    return [row for path in files if (row := _row(path))]


def shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a study as a table shows it: many names become their number, and so do mistakes."""
    wrong = {"mistakes": len(row["mistakes"])} if row.get("mistakes") else {"mistakes": None}
    return wrong | {
        key: _short_names(key, value) if key in ("task", "backbone", "method", "objective") else value
        for key, value in row.items()
        if key != "mistakes"
    }


def _written_by_sweeps(folders: list[str], files: list[str]) -> bool:
    names = {*folders, *files}
    return not names.isdisjoint(STORES) or ("study.yaml" in names and not names.isdisjoint({"optuna.db", "lanes"}))


def _yaml_files(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in names if name.endswith((".yaml", ".yml")) and (folder / name).is_file()]


def _row(path: Path) -> dict[str, Any] | None:
    from pace_tune.study.paths import COMPONENTS, flatten
    from pace_tune.study.yaml_text import read_mapping

    row: dict[str, Any] = {"name": path.stem, "study": _short(path)}
    try:
        tree = read_mapping(path)
    except ConfigError as error:
        # What cannot be read is called a study where it looks like one.
        looks_like_one = re.search(r"^task:", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
        return {**row, "mistakes": [str(error)]} if looks_like_one else None
    if "task" not in tree or "search" not in tree:
        return None
    flat, search = flatten(tree), tree["search"]
    names = {kind: _names(flat.get(f"{kind}.name")) for kind in COMPONENTS}
    row |= {"name": str(tree.get("name", path.stem)), **names, "trials": search.get("trials") if isinstance(search, dict) else None}
    return {**row, **({"mistakes": mistakes} if (mistakes := list(_mistakes(path))) else {})}


def _mistakes(path: Path) -> Iterator[str]:
    # Those of a checkout are right, and to check them all loads much and takes a while.
    if SHIPPED in path.absolute().parents:
        return
    from pace_tune.study.study_config import Study

    try:
        Study.load(path)
    except ConfigError as error:
        yield from str(error).splitlines()


def _names(value: Any) -> str:
    return ", ".join(map(str, value.get("choice", []))) if isinstance(value, dict) else str(value or "")


def _short_names(kind: str, names: str) -> str:
    count = len(names.split(", "))
    return names if count <= MOST_NAMES else f"{count} {kind}s"


def _short(path: Path) -> str:
    """Return the path as seen from here, or from the root where that is shorter."""
    return min(os.path.relpath(path), str(path.absolute()), key=len)
