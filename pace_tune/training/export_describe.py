"""What the users of an exported model need to know of its run: how inputs are prepared and what outputs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pace_tune.benchmarks.image_task import ImageTask
from pace_tune.benchmarks.task import Task
from pace_tune.benchmarks.text_task import tokenizer_of
from pace_tune.models.backbone import Backbone
from pace_tune.models.export_spec import ExportSpec, Form

if TYPE_CHECKING:
    from pace_tune.study.run_config import RunConfig


def describe(run: RunConfig, *, form: Form, dtype: torch.dtype) -> ExportSpec:
    """Return the description of a run's model.

    Args:
        form: What loads it.
        dtype: Of its weights.
    """
    task, backbone = run.task, run.backbone
    shared: dict[str, Any] = {"form": form, "target": task.target, "labels": task.labels if task.target == "class" else ()}
    inputs = _text(task, backbone) if backbone.spec.tokenizer else _image(task, backbone)
    loading = {"timm": _timm, "transformers": _transformers, "peft": _peft}[form](backbone)
    return ExportSpec(**shared, **inputs, **loading, dtype=str(dtype).removeprefix("torch."))


def _image(task: Task, backbone: Backbone) -> dict[str, Any]:
    spec = backbone.spec
    fit = task.fit if isinstance(task, ImageTask) else "squash"
    return {"image_size": spec.image_size, "fit": fit, "mean": spec.mean, "std": spec.std, "channels": spec.channels}


def _text(task: Any, backbone: Backbone) -> dict[str, Any]:
    spec = backbone.spec
    found: dict[str, Any] = {"max_length": spec.max_length, "columns": task.columns}
    if task.target != "token":
        return found
    tokenizer = tokenizer_of(spec)
    return found | {
        "prompt": task.prompt("{text}", tokenizer),
        # A chat template writes its own marks.
        "special_tokens": not tokenizer.chat_template,
        "max_new_tokens": task.max_new_tokens,
    }


def _timm(backbone: Backbone) -> dict[str, Any]:
    assert backbone.timm_call is not None
    architecture, arguments = backbone.timm_call
    return {"architecture": architecture, "arguments": arguments}


def _transformers(backbone: Backbone) -> dict[str, Any]:
    return {"auto_class": getattr(backbone, "auto_class", "") or "AutoModelForImageClassification"}


def _peft(backbone: Backbone) -> dict[str, Any]:
    return {"backbone": {"name": backbone.name, **backbone.model_dump(mode="json", by_alias=True)}}
