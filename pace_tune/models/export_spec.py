"""What a shipped model's folder says of itself: how it loads, how its input is prepared, what its outputs mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pace_tune.errors import DataError
from pace_tune.files import write_text
from pace_tune.models.backbone import InputSpec

FILE = "preprocess.json"
Form = Literal["timm", "transformers", "peft"]


class ExportSpec(BaseModel):
    """The contents of `preprocess.json`.

    Args:
        form: What loads the weights.
        target: ``class``, ``value`` (regression) or ``token`` (generated text).
        labels: Class names in the order of the outputs; empty unless the target is a class.
        image_size: Side of the square in pixels; 0 for text.
        fit: How an image becomes a square, as tasks name it.
        mean: Per channel, for pixels in [0, 1].
        std: Per channel.
        channels: Of the image.
        max_length: Longest text in tokens; 0 for images.
        columns: The text columns of the task: one, or two for pairs.
        prompt: Where answers are generated: what is written around the input, at ``{text}``.
        special_tokens: Whether the tokenizer puts its own marks around the prompt.
        max_new_tokens: Longest answer.
        architecture: Name for `timm.create_model`.
        arguments: Further arguments of `timm.create_model`.
        auto_class: The class of transformers that loads it.
        backbone: What a peft adapter goes onto.
        dtype: Of the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form
    target: Literal["class", "value", "token"]
    labels: tuple[str, ...] = ()
    image_size: int = 0
    fit: Literal["squash", "shorter", "square"] = "squash"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: int = 3
    max_length: int = 0
    columns: tuple[str, ...] = ()
    prompt: str = ""
    special_tokens: bool = True
    max_new_tokens: int = 0
    architecture: str = ""
    arguments: dict[str, Any] = {}
    auto_class: str = ""
    backbone: dict[str, Any] = {}
    dtype: str = "float32"

    @property
    def is_image(self) -> bool:
        """Whether it takes images."""
        return self.image_size > 0

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return max(1, len(self.labels))

    def inputs(self, folder: Path) -> InputSpec:
        """Return what the engine calls this; the tokenizer lies in the folder."""
        if self.is_image:
            return InputSpec(image_size=self.image_size, mean=self.mean, std=self.std, channels=self.channels)
        return InputSpec(tokenizer=str(folder), max_length=self.max_length)

    def write(self, folder: Path) -> Path:
        """Write it into a folder."""
        return write_text(folder / FILE, json.dumps(self.model_dump(mode="json", exclude_defaults=True), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ExportSpec:
        """Read it from a folder.

        Raises:
            DataError: The folder is not there or no exported model.
        """
        try:
            return cls.model_validate_json((folder / FILE).read_bytes())
        except OSError as error:
            hint = f"`pace-tune export RUN -o {folder}` makes one"
            raise DataError(f"{folder}: holds no exported model ({FILE} is missing); {hint}.") from error
        except ValidationError as error:
            complaint = error.errors()[0]
            where = ".".join(map(str, complaint["loc"]))
            raise DataError(f"{folder / FILE}: {where + ': ' if where else ''}{complaint['msg']}.") from error
