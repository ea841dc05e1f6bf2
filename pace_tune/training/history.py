"""A lane's folder: its checkpoint, and its reports as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pace_tune.files import write_text


class History:
    """Reports of one lane, oldest first.

    A report is written before the checkpoint of its epoch, so that a crash between the two leaves a line too many and
    never one too few; `until` cuts it off.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "history.jsonl"
        self.checkpoint = folder / "lane.safetensors"

    def append(self, report: Mapping[str, Any]) -> None:
        """Add one report."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(report) + "\n")

    def until(self, epoch: int) -> list[dict[str, Any]]:
        """Return the reports up to an epoch, and forget later ones. A diverged lane's last report stays."""
        if not self.path.is_file():
            return []
        kept: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                report = json.loads(line)
            except ValueError:  # half a line: the process died while writing it
                break
            if report["epoch"] > epoch and report["state"] in ("running", "finished"):
                break
            kept.append(report)
        write_text(self.path, "".join(json.dumps(report) + "\n" for report in kept))
        return kept
