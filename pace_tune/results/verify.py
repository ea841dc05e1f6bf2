"""The theorems against a sweep's measurements: verdicts and pictures in its folder, where the report finds them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pace_tune.files import write_text
from pace_tune.results.confirm_file import confirmed_lanes
from pace_tune.study.sweep_folder import LANES, STUDY_FILE, fetch_lanes

VERDICTS = "verify.json"
PICTURES = "verify"
_NEEDED = re.compile(r"at least .*?(\d+) (seeds|runs|models)$")


@dataclass(frozen=True)
class Verification:
    """What was found.

    Args:
        rows: One per claim: claim, says, verdict, number, interval, count, rule, plot.
        files: The verdicts as JSON, then the pictures.
    """

    rows: list[dict[str, Any]]
    files: list[Path]


def verify(folder: Path, *, models: int | None = None, progress: Callable[[str], None] = lambda _: None) -> Verification:
    """Rule on every claim that the finished runs below a folder say something about, and keep the rulings there.

    Args:
        folder: Of a sweep or a lane. Of a sweep's retrained runs those of its last confirmation count.
        models: Checkpoints to open at most, which is what takes long; None leaves it to the theory.
        progress: Is told what is being done.

    Raises:
        DataError: There is no finished run.
    """
    from pace_tune.worker import verify_runs

    folders = [folder]
    if (folder / STUDY_FILE).is_file():
        fetch_lanes(folder, wanted="")
        folders = [folder / LANES, *confirmed_lanes(folder)]
    found, pictures = verify_runs(*folders, figures=folder / PICTURES, models=models, progress=progress)
    rows = [_plain(row) for row in found]
    path = write_text(folder / VERDICTS, json.dumps({"rows": rows}, indent=2))
    return Verification(rows, [path, *pictures])


def verdict_text(row: Mapping[str, Any]) -> str:
    """Return a row's verdict, and what it lacks where there is too little to tell.

    Example:
        >>> verdict_text({"verdict": "cannot tell", "count": 1, "rule": "below 1, else cannot tell; at least 3 seeds"})
        'cannot tell, 1 of 3 seeds'
    """
    needed = _NEEDED.search(str(row.get("rule") or ""))
    if row["verdict"] != "cannot tell" or needed is None or row["count"] >= int(needed[1]):
        return str(row["verdict"])
    return f"cannot tell, {row['count']} of {needed[1]} {needed[2]}"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row for JSON, which has no word for a number or an interval that too few runs leave open."""
    number, low, high = (row[key] if math.isfinite(row[key]) else None for key in ("number", "low", "high"))
    rest = {key: value for key, value in row.items() if key not in ("low", "high")}
    return {**rest, "number": number, "interval": [low, high]}
