"""From what a user names, a sweep, a lane's folder or a trained run, to a folder with the model, its data sheet and its proof."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pace_tune.errors import ConfigError, PaceTuneError, UnknownNameError
from pace_tune.files import write_text
from pace_tune.results.best import find_best
from pace_tune.results.confirm_file import CONFIRMED_RUNS, outdated, read_confirmation
from pace_tune.results.model_card import model_card
from pace_tune.results.sweep_data import find_sweeps, read_history
from pace_tune.study.sweep_folder import LANES, STUDY_FILE, fetch_lanes

CHECKPOINT = "lane.safetensors"
FACTS = "export.json"
"""What was found out about an export, beside it."""


@dataclass(frozen=True)
class ExportSource:
    """A finished lane, and where it comes from.

    Args:
        lane: Its folder.
        sweep: Folder of the sweep that it is a trial of; None where it is none.
    """

    lane: Path
    sweep: Path | None = None

    @property
    def confirmation(self) -> Mapping[str, Any] | None:
        """What `confirm` found for this recipe, None where it was not confirmed."""
        found = read_confirmation(self.sweep) if self.sweep else None
        return None if found is None or self.why_outdated(found) else found

    def why_outdated(self, confirmation: Mapping[str, Any]) -> str:
        """Return why a confirmation is not of this trial; nothing where it is, or it is itself what was confirmed."""
        if self.sweep is None or self.lane.parent.name != LANES:
            return ""
        return outdated(confirmation, sweep=self.sweep.name, winner=self.lane.name)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Each metric at the last epoch that measured it."""
        merged: dict[str, float] = {}
        for report in read_history(self.lane / "history.jsonl"):
            merged.update(report["metrics"])
        return merged


@dataclass(frozen=True, kw_only=True)
class Export:
    """An exported model.

    Args:
        folder: Where it lies.
        form: ``timm``, ``transformers`` or ``peft``.
        run: The run's configuration.
        scores: Of the model as it was loaded again, on the split that the run was selected on.
        largest_difference: Of its outputs from the run's.
        source: Where it comes from.
    """

    folder: Path
    form: str
    run: Mapping[str, Any]
    scores: Mapping[str, float]
    largest_difference: float
    source: ExportSource

    @property
    def saw_val(self) -> bool:
        """Whether it was trained on the split that `scores` are of."""
        return "val" in self.run["data"]["train_on"].split("+")

    def as_row(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        facts = {"form": self.form, "saw_val": self.saw_val, "scores": self.scores, "largest_difference": self.largest_difference}
        return {"folder": str(self.folder), **facts, "lane": str(self.source.lane)}


def export_run(
    name: str,
    *,
    output: Path,
    folder: Path,
    form: Literal["merged", "peft"] = "merged",
    confirmed: bool = False,
    device: str | None = None,
) -> Export:
    """Export a run, load the result again and score it before anything is said to be done.

    Args:
        name: A sweep or task (its winner), a lane's folder, or the folder of a trained run.
        output: Folder of sweeps.
        folder: To be made; one that holds an export is replaced.
        form: ``merged``: a plain checkpoint; ``peft``: an adapter for the peft library.
        confirmed: The winner as `confirm` retrained it, on train and val, and not as the sweep did.
        device: ``cuda`` or ``cpu``; None takes a GPU if there is one.

    Raises:
        UnknownNameError: There is no such run.
        UnsupportedError: The method has no such form; the sentence says why.
        PaceTuneError: The exported model does not do what the run does.
    """
    from pace_tune.worker import export_lane

    source = find_source(name, output=output)
    source = confirmed_source(source) if confirmed else source
    done = export_lane(source.lane, out=folder, form=form, device=device)
    write_text(folder / "README.md", model_card(done, metrics=source.metrics, confirmation=source.confirmation, name=folder.name))
    write_text(folder / FACTS, json.dumps({key: done[key] for key in ("form", "scores", "parameters")}, indent=1) + "\n")
    return Export(
        folder=folder,
        form=done["form"],
        run=done["run"],
        scores=done["scores"],
        largest_difference=done["largest_difference"],
        source=source,
    )


def find_source(name: str, *, output: Path) -> ExportSource:
    """Return the lane that a user means.

    Raises:
        UnknownNameError: There is no such sweep, task or folder.
        ConfigError: A folder is there, but no run in it.
    """
    path = Path(name).expanduser().absolute()
    if path.parent.name == LANES and (path.parents[1] / STUDY_FILE).is_file():
        fetch_lanes(path.parents[1], wanted="", lane=path.name)
    if (path / CHECKPOINT).is_file():
        sweep = path.parents[1]
        return ExportSource(path, sweep if (sweep / "study.yaml").is_file() else None)
    if (path / "RUN.yaml").is_file():
        return ExportSource(path / "lanes" / "t0000")
    if (path / "study.yaml").is_file():
        name, output = path.name, path.parent
    try:
        (best,) = find_best(output, name)
    except PaceTuneError as error:
        unknown = isinstance(error, UnknownNameError) or not find_sweeps(output)
        if not (unknown and path.is_dir()):
            raise
        # A folder that happens to be called so, such as the user's data: it hides no sweep, and both were looked at.
        wanted = f"neither a lane ({CHECKPOINT}), nor a trained run (RUN.yaml), nor a sweep (study.yaml)"
        raise ConfigError(f"{path}: {wanted}; nor is there a sweep or task of that name in {output}: {error}") from error
    fetch_lanes(output / best.sweep, wanted="", lane=best.lane)
    return ExportSource(output / best.sweep / "lanes" / best.lane, output / best.sweep)


def confirmed_source(source: ExportSource) -> ExportSource:
    """Return the winner of a trial's sweep as `confirm` retrained it, with the first seed: no test score picks among them.

    Raises:
        ConfigError: The sweep was not confirmed, or another winner was.
    """
    found = (read_confirmation(source.sweep) if source.sweep else None) or {}
    if why := source.why_outdated(found):
        raise ConfigError(f"{why}.", path="--confirmed")
    winner = next(iter(found.get("means", ())), None)
    runs = [score for score in found.get("scores", ()) if score["recipe"] == winner and score["state"] == "finished" and score.get("lane")]
    if source.sweep is None or not runs:
        name = source.sweep.name if source.sweep else "SWEEP"
        raise ConfigError(f"there is no confirmed run; `pace-tune confirm {name}` trains them.", path="--confirmed")
    return ExportSource(source.sweep / CONFIRMED_RUNS / min(runs, key=lambda score: int(score["seed"]))["lane"], source.sweep)
