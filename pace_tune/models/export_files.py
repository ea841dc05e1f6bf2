"""Writing a plain model into a folder that timm or transformers load, and loading it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pace_tune.errors import DataError, UnsupportedError
from pace_tune.files import write_bytes, write_text
from pace_tune.models.backbone import Backbone
from pace_tune.models.export_spec import ExportSpec, Form
from pace_tune.registry import backbones
from pace_tune.wording import counted

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "model.safetensors"


def form_of(model: nn.Module, backbone: Backbone) -> Form:
    """Return what can load a model again.

    Raises:
        UnsupportedError: Neither timm nor transformers can.
    """
    if hasattr(model, "save_pretrained"):
        return "transformers"
    if backbone.timm_call is not None:
        return "timm"
    raise UnsupportedError(f"backbone {backbone.name!r} says of no library that loads it (`timm_call`), so it cannot be exported.")


def write_model(model: nn.Module, folder: Path, *, spec: ExportSpec, tokenizer: str = "") -> None:
    """Write weights, the library's own configuration, the tokenizer and `preprocess.json`.

    Args:
        tokenizer: Where the tokenizer comes from: a folder or a hub name.
    """
    if spec.form == "timm":
        _write_timm(model, folder, spec)
    else:
        _write_transformers(model, folder, spec)
    write_description(folder, spec=spec, tokenizer=tokenizer)


def write_description(folder: Path, *, spec: ExportSpec, tokenizer: str = "") -> None:
    """Write the tokenizer and `preprocess.json` beside weights that are there already."""
    if tokenizer:
        _tokenizer(tokenizer).save_pretrained(folder)
    spec.write(folder)


def read_model(folder: Path, spec: ExportSpec) -> nn.Module:
    """Load an exported model as anyone would, in evaluation mode.

    Raises:
        DataError: Its weights are missing, damaged or another model's.
    """
    from safetensors import SafetensorError

    readers = {"timm": _read_timm, "transformers": _read_transformers, "peft": _read_peft}
    try:
        return readers[spec.form](folder, spec).eval()
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise DataError(f"{folder}: cannot be loaded: {(str(error).strip() or type(error).__name__).splitlines()[0]}") from error


def loading_code(spec: ExportSpec) -> str:
    """Return the Python that loads an export from its own folder: an expression, of an adapter the lines."""
    if spec.form == "transformers":
        # Without its name transformers asks the hub for the task, even of a folder.
        task = "image-classification" if spec.is_image else "text-generation" if spec.target == "token" else "text-classification"
        return f'pipeline("{task}", model=".")'
    return _timm_code(spec) if spec.form == "timm" else _peft_code(spec)


def _peft_code(spec: ExportSpec) -> str:
    """Return the lines of Python that load an adapter onto its base; a folder on this machine is named by its last part."""
    base: Any = backbones.build(spec.backbone)
    folder = spec.backbone.get("path")
    name = Path(folder).name if folder else getattr(base, "source", base.name)
    head = "" if spec.target == "token" else f", num_labels={spec.outputs}"
    adapter = 'model = PeftModel.from_pretrained(base, ".").eval()'
    auto = getattr(base, "auto_class", "")
    # What was drawn at random is in no checkpoint, and an image model's arguments are not those of text models.
    if spec.is_image or spec.backbone.get("random_weights") or not auto:
        return f"from peft import PeftModel\n\nbase = ...  # {name}, with a head of {counted(spec.outputs, 'output')}\n{adapter}"
    lines = [
        "from peft import PeftModel",
        f"from transformers import {auto}, AutoTokenizer",
        "",
        f'base = {auto}.from_pretrained("{name}"{head}){"  # the folder of that model" if folder else ""}',
        adapter,
        'tokenizer = AutoTokenizer.from_pretrained(".")',
    ]
    return "\n".join(lines)


def _timm_code(spec: ExportSpec) -> str:
    """Return the line of Python that loads a timm export from its own folder."""
    arguments = "".join(f", {key}={value!r}" for key, value in spec.arguments.items())
    return f'timm.create_model("{spec.architecture}", checkpoint_path="{WEIGHTS}", num_classes={spec.outputs}{arguments})'


def _write_timm(model: nn.Module, folder: Path, spec: ExportSpec) -> None:
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_text(folder / "config.json", json.dumps(_timm_config(model, spec), indent=1) + "\n")


def _timm_config(model: Any, spec: ExportSpec) -> Mapping[str, Any]:
    """Return the file by which timm finds architecture and preprocessing: ``create_model("local-dir:FOLDER", pretrained=True)``."""
    preprocessing = {
        "input_size": [spec.channels, spec.image_size, spec.image_size],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": _crop_share(spec),
        "crop_mode": "center" if spec.fit == "shorter" else "squash",
        "mean": spec.mean,
        "std": spec.std,
        "num_classes": spec.outputs,
        "first_conv": "patch_embed.proj",
        "classifier": "head.fc" if hasattr(getattr(model, "head", None), "fc") else "head",
    }
    return {
        "architecture": spec.architecture,
        "num_classes": spec.outputs,
        "num_features": getattr(model, "num_features", 0),
        "label_names": spec.labels,
        "model_args": spec.arguments,
        "pretrained_cfg": preprocessing,
    }


def _crop_share(spec: ExportSpec) -> float:
    """Return the share of the resized image that is kept: timm resizes to the whole part of size / share."""
    side = spec.image_size if spec.fit == "squash" else round(spec.image_size * 8 / 7)
    share = spec.image_size / side
    return share if int(spec.image_size / share) == side else spec.image_size / (side + 0.5)


def _read_timm(folder: Path, spec: ExportSpec) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(
        spec.architecture, checkpoint_path=folder / WEIGHTS, num_classes=spec.outputs, **_tuples(spec.arguments)
    )
    return model


def _tuples(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with lists as the tuples that they were before they went through JSON."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}


def _write_transformers(model: Any, folder: Path, spec: ExportSpec) -> None:
    from pace_tune.models.quiet import quiet_loading

    if spec.labels:
        model.config.id2label = dict(enumerate(spec.labels))
        model.config.label2id = {name: number for number, name in enumerate(spec.labels)}
    if spec.target == "value":
        model.config.problem_type = "regression"
    if spec.target == "token":
        model.config.use_cache = True
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_loading():
        model.save_pretrained(folder)
    _name_public_class(model, folder)
    if spec.is_image:
        _image_processor(spec).save_pretrained(folder)


def _name_public_class(model: Any, folder: Path) -> None:
    """Name in the configuration what transformers calls the class, where the backbone uses one of its own."""
    public = next(kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("transformers."))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_text(folder / "config.json", json.dumps({**config, "architectures": [public]}, indent=1) + "\n")


def _image_processor(spec: ExportSpec) -> Any:
    """Return transformers' preprocessing of images, bicubic as ours."""
    from transformers import CLIPImageProcessor, ViTImageProcessor

    square = {"height": spec.image_size, "width": spec.image_size}
    statistics: dict[str, Any] = {"image_mean": spec.mean, "image_std": spec.std}
    if spec.fit == "squash":
        return ViTImageProcessor(size=square, resample=3, **statistics)
    side = round(spec.image_size * 8 / 7)
    resized = {"shortest_edge": side} if spec.fit == "shorter" else {"height": side, "width": side}
    return CLIPImageProcessor(size=resized, crop_size=square, resample=3, **statistics)


def _read_transformers(folder: Path, spec: ExportSpec) -> nn.Module:
    import torch
    import transformers

    from pace_tune.models.quiet import quiet_loading

    auto = getattr(transformers, spec.auto_class)
    with quiet_loading():
        model, info = auto.from_pretrained(folder, local_files_only=True, dtype=getattr(torch, spec.dtype), output_loading_info=True)
    # transformers draws what a checkpoint lacks and only warns.
    if info["missing_keys"]:
        raise ValueError(f"its weights lack {min(info['missing_keys'])}")
    loaded: nn.Module = model
    return loaded


def _read_peft(folder: Path, spec: ExportSpec) -> nn.Module:
    import torch
    from peft import PeftModel

    from pace_tune.models.quiet import quiet_loading

    base: Any = backbones.build(spec.backbone).build(num_classes=spec.outputs)
    with quiet_loading(), torch.random.fork_rng(devices=[]):  # peft draws start values before it reads the file
        loaded: nn.Module = PeftModel.from_pretrained(base, str(folder), autocast_adapter_dtype=False)
    return loaded


def _tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    with suppress(OSError, ValueError):
        return AutoTokenizer.from_pretrained(source, local_files_only=True)
    raise DataError(f"{source}: holds no tokenizer.")
