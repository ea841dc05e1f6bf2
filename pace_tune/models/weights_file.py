"""Reading weight files into a model, with nothing unpickled and every mismatch named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pace_tune.errors import DataError

Remap = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]
ENDINGS = (".safetensors", ".npz", ".pth", ".pt", ".bin")
DAMAGED = (SafetensorError, UnpicklingError, BadZipFile, RuntimeError, OSError, EOFError, KeyError, ValueError)
WRAPPERS = ("model", "state_dict", "model_state_dict", "teacher")
NOT_FEATURES = ("head", "fc_norm", "pre_logits", "decoder", "mask_token", "fc.", "classifier")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or torch file, taken out of the wrappers trainers put around them.

    Raises:
        DataError: There is no such file, its ending is unknown, or it cannot be read.
    """
    check_file(path)
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise DataError(f"{path}: cannot be read as weights: {_first_line(error)}") from error
    for key in WRAPPERS:
        if isinstance(state.get(key), dict):
            state = state[key]
    tensors = {name.removeprefix("module.").removeprefix("backbone."): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DataError(f"{path}: holds no tensors.")
    return tensors


def check_file(path: Path) -> None:
    """Refuse a file that is not there or whose kind is not known."""
    if path.suffix not in ENDINGS:
        raise DataError(f"{path}: weights must end in one of {', '.join(ENDINGS)}.")
    if not path.is_file():
        raise DataError(f"{path}: no such weights file.")


def load_features(model: nn.Module, path: Path, *, remap: Remap | None = None) -> None:
    """Load everything but the classifier; every other tensor of the model must be in the file.

    Args:
        model: Changed in place.
        path: A safetensors or torch file, or the original ViT's `.npz`.
        remap: Renames and resizes a file's tensors to the model's, e.g. timm's `checkpoint_filter_fn`.

    Raises:
        DataError: A file or tensor is missing, damaged, of another shape or of another architecture.
    """
    if path.suffix == ".npz":
        return _load_npz(model, path)
    state = read_weights(path)
    if remap is not None:
        state = remap(state, model)
    features = {name: value for name, value in state.items() if not name.startswith(NOT_FEATURES)}
    try:
        missing, unexpected = model.load_state_dict(features, strict=False)
    except RuntimeError as error:
        raise DataError(f"{path}: weights of another shape: {_last_line(error)}") from error
    missing = [name for name in missing if not name.startswith(NOT_FEATURES)]
    if missing or unexpected:
        raise DataError(
            f"{path}: weights of another architecture: {_some('lacks', missing)}{_some('has unknown', unexpected)}".rstrip(";, ")
        )
    return None


def _load_npz(model: Any, path: Path) -> None:
    check_file(path)
    if not hasattr(model, "load_pretrained"):
        raise DataError(f"{path}: {type(model).__name__} does not read .npz weights; give .safetensors or .pth.")
    try:
        model.load_pretrained(str(path))
    except DAMAGED as error:
        raise DataError(f"{path}: cannot be read as weights of this model: {_first_line(error)}") from error


def _some(verb: str, names: Iterable[str]) -> str:
    names = sorted(names)
    return f"{verb} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}; " if names else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1].strip()
