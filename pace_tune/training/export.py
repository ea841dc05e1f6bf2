"""From a finished lane to a folder that timm, transformers or peft load: written, loaded again, scored, and only then in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pace_tune.errors import ConfigError, PaceTuneError, UnsupportedError
from pace_tune.methods.adapted import Adapted, merge, why_not_merged
from pace_tune.methods.export_peft import export_peft
from pace_tune.models.export_files import form_of, loading_code, write_description, write_model
from pace_tune.models.export_spec import FILE, ExportSpec
from pace_tune.models.quiet import quiet_loading
from pace_tune.study.run_config import RunConfig
from pace_tune.training.data import ResidentData
from pace_tune.training.export_describe import describe
from pace_tune.training.judge import Judge, judge_of
from pace_tune.training.lane_state import LaneState
from pace_tune.training.scoring import predict
from pace_tune.training.shipped import shipped

CHECKPOINT = "lane.safetensors"
Wanted = Literal["merged", "peft"]
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference of a logit, relative to the largest logit, that rounding explains."""
COMPARED = 256
"""Samples whose outputs are compared one by one; scores are compared over the whole split."""


@dataclass(frozen=True)
class FinishedLane:
    """A run that ended, with what is needed to run it again.

    Args:
        run: Its configuration.
        state: Its parameters.
        device: Where it runs.
    """

    run: RunConfig
    state: LaneState
    device: torch.device

    @classmethod
    def read(cls, folder: Path, *, device: torch.device) -> FinishedLane:
        """Read a lane's folder.

        Raises:
            ConfigError: There is no lane, or it has not ended.
            DataError: Its checkpoint is damaged.
        """
        if not (folder / CHECKPOINT).is_file():
            raise ConfigError(f"{folder}: holds no lane ({CHECKPOINT} is missing).")
        state, config = LaneState.load(folder / CHECKPOINT)
        run = RunConfig.model_validate(config)
        if state.epoch < run.optim.epochs:
            raise ConfigError(f"{folder}: this run stands at epoch {state.epoch} of {run.optim.epochs}; only a finished one is exported.")
        return cls(run, state, device)

    @cached_property
    def adapted(self) -> Adapted:
        """The backbone with the lane's deltas."""
        model = self.run.backbone.build(num_classes=self.run.task.num_classes, drop_path=0.0).to(self.device)
        adapted = Adapted(model, [self.run.method])
        adapted.set_lanes([self.run.method], [self.state.values])
        return adapted.eval()

    @cached_property
    def val(self) -> ResidentData:
        """The split that the run was selected on."""
        data, spec = self.run.data, self.run.backbone.spec
        examples = self.run.task.load(data.selection, spec=spec, root=data.root, cache=data.cache)
        return ResidentData.of(examples, spec=spec, device=self.device)

    @cached_property
    def judge(self) -> Judge:
        """How the task is judged."""
        return judge_of(self.run.task, spec=self.run.backbone.spec)

    def scores(self, adapted: Adapted) -> dict[str, float]:
        """Return the scores of a model on `val`."""
        return {key: float(value[0]) for key, value in self.judge.scores(adapted, self.val).items()}


def export_lane(lane: Path, *, out: Path, form: Wanted = "merged", device: str | None = None) -> dict[str, Any]:
    """Export a finished lane into a folder, which appears only after the exported model was loaded again and scored.

    Args:
        lane: The lane's folder.
        out: Folder to be made. One that holds an export is replaced.
        form: ``merged``: a plain checkpoint; ``peft``: an adapter of the peft library.
        device: ``cuda`` or ``cpu``; None takes a GPU if there is one.

    Returns:
        ``{"form", "run", "scores", "largest_difference", "parameters", "code"}`` as plain values; `scores` are those of the
        exported model on val.

    Raises:
        UnsupportedError: The method has no such form; the sentence says why.
        PaceTuneError: What was loaded again does not do what the run does.
    """
    refuse_other_folder(out)
    finished = FinishedLane.read(lane, device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    with _put_in_place(out) as folder:
        spec = _write_merged(finished, folder) if form == "merged" else _write_peft(finished, folder)
        scores, difference = _check(finished, folder, spec)
    return {
        "form": spec.form,
        "run": finished.run.as_mapping(),
        "labels": list(spec.labels),
        "scores": scores,
        "largest_difference": difference,
        "parameters": {"trained": finished.adapted.num_parameters(), "deltas": finished.adapted.num_parameters(head=False)},
        "code": loading_code(spec),
    }


def score_export(folder: Path, *, run: Mapping[str, Any], device: str | None = None) -> dict[str, float]:
    """Load an exported model and return its scores on the split that its run was selected on."""
    finished = FinishedLane(RunConfig.model_validate(run), LaneState({}), torch.device(device or "cpu"))
    return finished.scores(shipped(folder, ExportSpec.read(folder), device=finished.device))


def refuse_other_folder(out: Path) -> None:
    """Raise `ConfigError` where a folder holds something that is no export."""
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / FILE).is_file())):
        raise ConfigError(f"{str(out)!r} is there already and is no export; choose another.", path="--out")


@contextmanager
def _put_in_place(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its place when all went well, and is gone otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        _open_as_the_folder(folder)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_as_the_folder(folder: Path) -> None:
    """Let those read the files that may look into the folder: safetensors, for one, writes for the owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _write_merged(finished: FinishedLane, folder: Path) -> ExportSpec:
    why_not = why_not_merged(finished.adapted)
    if why_not:
        raise UnsupportedError(f"method {finished.run.method.name!r} cannot be merged into a checkpoint: {why_not}.")
    model: nn.Module = merge(finished.adapted).cpu()
    backbone = finished.run.backbone
    spec = describe(finished.run, form=form_of(model, backbone), dtype=next(model.parameters()).dtype)
    write_model(model, folder, spec=spec, tokenizer=backbone.spec.tokenizer)
    return spec


def _write_peft(finished: FinishedLane, folder: Path) -> ExportSpec:
    backbone = finished.run.backbone
    with quiet_loading():
        export_peft(finished.adapted, folder)
    spec = describe(finished.run, form="peft", dtype=next(finished.adapted.model.parameters()).dtype)
    write_description(folder, spec=spec, tokenizer=backbone.spec.tokenizer)
    return spec


def _check(finished: FinishedLane, folder: Path, spec: ExportSpec) -> tuple[dict[str, float], float]:
    """Load what was written and return its scores, and its largest difference from the run's outputs."""
    loaded = shipped(folder, ExportSpec.read(folder), device=finished.device)
    limit = COMPARED if spec.target != "token" else 8
    ours, theirs = (predict(model, finished.val, limit=limit) for model in (finished.adapted, loaded))
    difference = float((ours - theirs).abs().max())
    scores = finished.scores(loaded)
    if not difference <= TOLERANCES[spec.dtype] * _scale(ours):
        raise PaceTuneError(f"the exported model differs from the run: a logit by {difference:.3g} (largest logit {_scale(ours):.3g}).")
    return scores, difference


def _scale(logits: Tensor) -> float:
    return max(1.0, float(logits.abs().max()))
