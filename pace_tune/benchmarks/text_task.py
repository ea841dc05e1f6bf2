"""Tasks whose examples are texts: read, labelled, tokenised once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pace_tune.benchmarks.problems import refuse
from pace_tune.benchmarks.task import Examples, Modality, Split, Task
from pace_tune.benchmarks.waiting import waiting
from pace_tune.errors import DataError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from pace_tune.models.backbone import InputSpec

CHUNK = 1_000
"""Texts tokenised at once."""


@dataclass(frozen=True)
class Texts:
    """The examples of a split.

    Args:
        texts: One text an example, or a pair.
        targets: Class numbers, or values.
    """

    texts: Sequence[tuple[str, ...]]
    targets: Sequence[int | float]


class TextTask(Task):
    """A classification or regression task over texts or pairs of texts. A family reads them, and this does the rest."""

    modality: ClassVar[Modality] = "text"

    @property
    def columns(self) -> tuple[str, ...]:
        """What a text is called, or the two of a pair."""
        return ("text",)

    @abstractmethod
    def texts(self, split: Split, *, root: Path | None, problems: list[str]) -> Texts:
        """Return the examples of a split in order; what is wrong with the files goes into `problems`."""

    def load(self, split: Split, *, spec: InputSpec, root: Path | None = None, seed: int = 0, cache: Path | None = None) -> Examples:
        """Return token ids, padded to the longest text of the split; the engine cuts each batch to its own longest."""
        import torch

        problems: list[str] = []
        found = self.texts(split, root=root, problems=problems)
        refuse([*problems, *self._empty(found, split)])
        inputs = tokenised(found.texts, spec=spec, label=f"{self.name} {split}")
        return Examples(inputs, torch.tensor(found.targets, dtype=torch.float32 if self.target == "value" else torch.int64))

    def problems(self, split: Split, *, root: Path | None = None) -> list[str]:
        """Return what is wrong with the files and rows of a split."""
        problems: list[str] = []
        found = self.texts(split, root=root, problems=problems)
        return problems or self._empty(found, split)

    def size(self, split: Split, *, root: Path | None = None) -> int | None:
        """Return how many texts a split holds."""
        return len(self.texts(split, root=root, problems=[]).texts)

    def class_numbers(self, split: Split, *, root: Path | None = None) -> Sequence[int] | None:
        """Return the class of each text of a split; None for values."""
        return [int(number) for number in self.texts(split, root=root, problems=[]).targets] if self.target == "class" else None

    def _empty(self, found: Texts, split: str) -> list[str]:
        return [] if found.texts else [f"task {self.name!r}: its {split} split holds no texts."]


def tokenizer_of(spec: InputSpec) -> Any:
    """Return the tokenizer of a backbone, from its folder and never from the network.

    Raises:
        UnsupportedError: The backbone takes no text.
        DataError: There is no tokenizer.
    """
    if not spec.tokenizer:
        raise UnsupportedError("a text task needs a backbone that takes text, but this one takes images.")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(spec.tokenizer, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{spec.tokenizer}: holds no tokenizer: {str(error).strip().splitlines()[0]}") from error


def tokenised(texts: Sequence[tuple[str, ...]], *, spec: InputSpec, label: str) -> dict[str, Tensor]:
    """Return `input_ids`, `attention_mask` and what else the model takes, [N, T] each; longer texts are cut."""
    tokenizer = tokenizer_of(spec)
    rows: dict[str, list[list[int]]] = {}
    starts = range(0, len(texts), CHUNK)
    for start in waiting(starts, total=len(starts), label=f"tokenising {label}"):
        parts = [list(part) for part in zip(*texts[start : start + CHUNK], strict=True)]
        for key, values in tokenizer(*parts, truncation=True, max_length=spec.max_length or None).items():
            rows.setdefault(key, []).extend(values)
    return padded(rows, pad_id=tokenizer.pad_token_id or 0)


def padded(rows: dict[str, list[list[int]]], *, pad_id: int) -> dict[str, Tensor]:
    """Return lists of tokens as [N, T], padded at their end."""
    import torch

    longest = max(map(len, rows["input_ids"]))
    tensors = {}
    for key, values in rows.items():
        filler = pad_id if key == "input_ids" else 0
        tensors[key] = torch.tensor([[*row, *[filler] * (longest - len(row))] for row in values], dtype=torch.int64)
    return tensors
