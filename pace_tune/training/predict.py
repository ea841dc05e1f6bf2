"""What an exported model says of new images and texts. Inputs go the way that evaluation sends them, so outputs agree with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pace_tune.benchmarks.image_task import ENDINGS
from pace_tune.benchmarks.images import ImageBytes, ImageFile, Source, decode, stored_size
from pace_tune.benchmarks.problems import refuse
from pace_tune.benchmarks.tables import read_tables
from pace_tune.benchmarks.text_task import padded, tokenised, tokenizer_of
from pace_tune.errors import DataError, UnsupportedError
from pace_tune.models.export_spec import ExportSpec
from pace_tune.pace.criterion import CRITERIA, IGNORED
from pace_tune.training.data import ResidentData
from pace_tune.training.generation import GenerationJudge
from pace_tune.training.scoring import predict
from pace_tune.training.shipped import shipped

CHUNK = 256
"""Inputs in memory at a time."""
BROKEN = "not an image that can be read."
IMAGE_COLUMNS = ("image", "path", "file")
"""What a table calls the images, first match wins."""
Texts = Sequence[str | tuple[str, ...]]


@dataclass(frozen=True)
class Prediction:
    """What is said of one input.

    Args:
        input: The file, or the text.
        label: The likeliest class; where the model makes text, the text.
        probability: Of that class.
        value: Of a regression.
        probabilities: Of all classes, in the order of the labels.
        skipped: Why nothing is said of it.
    """

    input: str
    label: str | None = None
    probability: float | None = None
    value: float | None = None
    probabilities: tuple[float, ...] = ()
    skipped: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return what there is to say, as plain values, without the other classes' probabilities."""
        found = asdict(self)
        del found["probabilities"]
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class _Answers:
    """What generation asks of a task."""

    max_new_tokens: int


class Predictor:
    """An exported model, ready for inputs.

    Args:
        folder: What `pace-tune export` wrote.
        device: ``cuda`` or ``cpu``; None takes a GPU if there is one.

    Raises:
        DataError: The folder holds no exported model, or a damaged one.
    """

    def __init__(self, folder: Path, *, device: str | None = None) -> None:
        self.folder = folder
        self.spec = ExportSpec.read(folder)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = shipped(folder, self.spec, device=self.device)
        self.inputs = self.spec.inputs(folder)

    @staticmethod
    def check(folder: Path, inputs: Sequence[str] = (), *, table: Path | None = None, columns: Sequence[str] = ()) -> None:
        """Refuse inputs that an exported model cannot take, before it is loaded.

        Args:
            folder: What `pace-tune export` wrote.
            inputs: Image files and folders, or texts.
            table: A file of them.
            columns: Of the table, as `file` takes them.

        Raises:
            DataError: A file is missing or lacks a column, or the model takes something else; it is said what.
        """
        spec = ExportSpec.read(folder)
        if empty := [number for number, one in enumerate(inputs, start=1) if not one.strip()]:
            raise DataError(f"input {empty[0]}: the {'name of the image' if spec.is_image else 'text'} is empty.")
        if table is not None:
            _read_table(table, columns, spec=spec)
        elif spec.is_image:
            try:
                found = list(_sources(inputs))
            except DataError as error:
                raise DataError(f"{error} {folder} takes images: files, or folders of them.") from error
            if not found:
                raise DataError(f"{', '.join(inputs)}: no image in there. {folder} takes images: files, or folders of them.")
        elif paths := [one for one in inputs if _is_there(Path(one).expanduser(), Path.exists)]:
            kind = "folder" if Path(paths[0]).expanduser().is_dir() else "file"
            raise DataError(f"{paths[0]}: a {kind}, but {folder} takes texts, each a word of the command; a table of them goes by --file.")

    def images(self, sources: Iterable[str | Path | bytes], *, skip_broken: bool = False) -> Iterator[Prediction]:
        """Yield what is said of image files, of all images below a folder, or of encoded images.

        Args:
            sources: They.
            skip_broken: Of what is no image that can be read, yield why, and go on with the others.

        Raises:
            UnsupportedError: The model takes text.
            DataError: A file is missing or no image.
        """
        if not self.spec.is_image:
            raise UnsupportedError(f"{self.folder}: this model takes texts, not images.")
        for part in _chunks(list(_sources(sources))):
            pixels = [self._pixels(source, skip_broken=skip_broken) for source in part]
            whole = [(source.where, x) for source, x in zip(part, pixels, strict=True) if x is not None]
            logits_NC = self.logits({"x": torch.stack([x for _, x in whole])}) if whole else torch.empty(0, 1)
            said = self._read([where for where, _ in whole], logits_NC)
            yield from (Prediction(one.where, skipped=BROKEN) if x is None else next(said) for one, x in zip(part, pixels, strict=True))

    def texts(self, texts: Texts) -> Iterator[Prediction]:
        """Yield what is said of texts, each one string, or a tuple of two where the model takes pairs.

        Raises:
            UnsupportedError: The model takes images.
            DataError: Pairs are given to a model of single texts, or the other way round.
        """
        if self.spec.is_image:
            raise UnsupportedError(f"{self.folder}: this model takes images, not texts.")
        rows = [(text,) if isinstance(text, str) else text for text in texts]
        wanted = self.spec.columns
        if any(len(row) != len(wanted) for row in rows):
            shape = f"a pair ({', '.join(wanted)}), from --file" if len(wanted) > 1 else "one text"
            raise DataError(f"{self.folder}: this model takes {shape} at a time.")
        for part in _chunks(rows):
            names = [" | ".join(row) for row in part]
            if self.spec.target == "token":
                yield from map(Prediction, names, self._answers([text for (text,) in part]))
            else:
                yield from self._read(names, self.logits(tokenised(part, spec=self.inputs, label="inputs")))

    def file(self, path: Path, *, columns: Sequence[str] = (), skip_broken: bool = False) -> Iterator[Prediction]:
        """Yield what is said of the rows of a table: CSV, TSV, JSON lines or Parquet.

        Args:
            columns: Of the text, or of the image files (relative to the table); None takes those that the model was trained with.
            skip_broken: As `images` takes it.
        """
        rows = _read_table(path, columns, spec=self.spec)
        if self.spec.is_image:
            yield from self.images([path.parent / row[0] for row in rows], skip_broken=skip_broken)
        else:
            yield from self.texts(rows)

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the outputs (N, C) for prepared inputs: uint8 images under ``x``, or tokens."""
        count = len(next(iter(inputs.values())))
        data = ResidentData(inputs, torch.zeros(count, dtype=torch.int64, device=self.device), self.inputs)
        return predict(self.model, data)[0]

    def _pixels(self, source: Source, *, skip_broken: bool) -> Tensor | None:
        side = stored_size(self.spec.image_size, fit=self.spec.fit)
        try:
            return torch.from_numpy(decode(source.read(), side=side, fit=self.spec.fit, channels=self.spec.channels).copy())
        except (OSError, ValueError) as error:
            if skip_broken:
                return None
            raise DataError(f"{source.where}: {BROKEN}") from error

    def _read(self, names: Sequence[str], logits_NC: Tensor) -> Iterator[Prediction]:
        if self.spec.target == "value":
            yield from (Prediction(name, value=value) for name, value in zip(names, logits_NC[:, 0].tolist(), strict=True))
            return
        for name, row in zip(names, logits_NC.softmax(dim=-1).tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            yield Prediction(name, self.spec.labels[best], row[best], probabilities=tuple(row))

    def _answers(self, texts: Sequence[str]) -> list[str]:
        spec, tokenizer = self.spec, tokenizer_of(self.inputs)
        prompts = [spec.prompt.replace("{text}", text) for text in texts]
        rows = [ids[-(spec.max_length - 1) :] for ids in tokenizer(prompts, add_special_tokens=spec.special_tokens)["input_ids"]]
        if spec.special_tokens and tokenizer.eos_token_id is not None:
            rows = [row[:-1] if row[-1] == tokenizer.eos_token_id else row for row in rows]
        # One token more, at which the answer starts: that is how generation finds a prompt's end.
        begun = {"input_ids": [[*row, 0] for row in rows], "attention_mask": [[1] * (len(row) + 1) for row in rows]}
        inputs = padded(begun, pad_id=tokenizer.pad_token_id or 0)
        targets = torch.full_like(inputs["input_ids"], IGNORED)
        for number, row in enumerate(rows):
            targets[number, len(row)] = 0
        judge = GenerationJudge(CRITERIA["token"], task=_Answers(spec.max_new_tokens), spec=self.inputs)
        return judge.generate(self.model, ResidentData(inputs, targets.to(self.device), self.inputs))[0]


def _sources(given: Iterable[str | Path | bytes]) -> Iterator[Source]:
    for number, one in enumerate(given):
        if isinstance(one, bytes):
            yield ImageBytes(one, f"image {number}")
            continue
        path = Path(one).expanduser()
        if _is_there(path, Path.is_dir):
            yield from (ImageFile(file) for file in sorted(path.rglob("*")) if file.suffix in ENDINGS)
        elif _is_there(path, Path.is_file):
            yield ImageFile(path)
        else:
            raise DataError(f"{path}: no such file.")


def _is_there(path: Path, look: Callable[[Path], bool]) -> bool:
    try:
        return look(path)
    except (OSError, ValueError):  # a text, longer than a name can be
        return False


def _read_table(path: Path, columns: Sequence[str], *, spec: ExportSpec) -> list[tuple[str, ...]]:
    """Return the rows of a table as texts, or as names of image files; no columns are those of training."""
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    problems: list[str] = []
    wanted = columns or (_image_column(path) if spec.is_image else spec.columns)
    table = read_tables([path], columns=wanted, problems=problems)
    refuse(problems)
    return list(zip(*(map(str, table.columns[name]) for name in wanted), strict=True))


def _image_column(path: Path) -> tuple[str, ...]:
    for name in IMAGE_COLUMNS:
        problems: list[str] = []
        read_tables([path], columns=[name], problems=problems)
        if not problems:
            return (name,)
    raise DataError(f"{path}: has none of the columns {', '.join(IMAGE_COLUMNS)}; name the one with the image files by --column.")


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
