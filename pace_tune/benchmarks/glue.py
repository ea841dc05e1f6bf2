"""GLUE (Wang et al. 2018) in the columns of the Hugging Face copy, as Parquet, JSON lines or CSV.

``<root>/[glue/]<task>/{train,validation}*.parquet``. The labels of GLUE's test split are hidden, so its *validation* split
is what everyone scores, and it is ``test`` here. Selecting on it too, as the published protocol does (best epoch on the
development set), flatters the result; here ``val`` is held out of train instead, unless `selection` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from pace_tune.benchmarks.problems import find_folder
from pace_tune.benchmarks.splits import hold_out, subset
from pace_tune.benchmarks.tables import ENDINGS, Table, read_tables
from pace_tune.benchmarks.task import Index, Split, Target
from pace_tune.benchmarks.text_task import Texts, TextTask
from pace_tune.registry import tasks


@dataclass(frozen=True)
class GlueTask:
    """One task's columns, classes and scores."""

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    scored: str = "validation"


PAIR = ("sentence1", "sentence2")
ENTAILED = ("entailment", "not_entailment")
TASKS: Mapping[str, GlueTask] = {
    "cola": GlueTask(("sentence",), ("unacceptable", "acceptable"), ("matthews", "accuracy")),
    "sst2": GlueTask(("sentence",), ("negative", "positive")),
    "mrpc": GlueTask(PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "stsb": GlueTask(PAIR, (), ("pearson",)),
    "mnli": GlueTask(("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), scored="validation_matched"),
    "qnli": GlueTask(("question", "sentence"), ENTAILED),
    "rte": GlueTask(PAIR, ENTAILED),
}
VALUES = (0.0, 5.0)
"""Range of STS-B's similarity."""


class Glue(TextTask):
    """A GLUE task: trained on train, selected on a part held out of it, scored on GLUE's validation split.

    Args:
        selection: ``held_out`` takes `val` out of train; ``published`` selects on the split that is scored, as the published
            tables do, which flatters them.
        val_share: Of each class of train that is held out.
        most_val: Examples to select on at most; a tenth of MNLI would be 39,000.
        train_examples: Take so many of train, stratified; null takes all.
        split_seed: Which examples are held out or taken.
    """

    selection: Literal["held_out", "published"] = "held_out"
    val_share: float = Field(default=0.1, gt=0, lt=1)
    most_val: int = Field(default=1_000, ge=1)
    train_examples: int | None = Field(default=None, ge=2)
    split_seed: int = Field(default=0, ge=0)

    @property
    def facts(self) -> GlueTask:
        """The task's columns, classes and scores."""
        return TASKS[self.name.removeprefix("glue/")]

    @property
    def columns(self) -> tuple[str, ...]:
        """The sentence, or the pair."""
        return self.facts.columns

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        return self.facts.labels

    @property
    def metric(self) -> str:
        """The score of the published tables."""
        return self.facts.metrics[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """It, and what is reported beside it."""
        return self.facts.metrics

    def texts(self, split: Split, *, root: Path | None, problems: list[str]) -> Texts:
        """Return the examples of a split."""
        published_val = split == "val" and self.selection == "published"
        table = self._table(self.facts.scored if split == "test" or published_val else "train", root, problems)
        problems += self._wrong_labels(table)
        if split in ("train", "val", "train+val") and not published_val and not problems:
            table = table.take(self._part(table, split))
        sentences = list(zip(*(map(str, table.columns[name]) for name in self.facts.columns), strict=True))
        return Texts(sentences, list(table.columns["label"]))

    def _table(self, part: str, root: Path | None, problems: list[str]) -> Table:
        name = self.name.removeprefix("glue/")
        folder = find_folder(root, [f"glue/{name}", name, f"glue_parquet/{name}"], task=self.name)
        files = sorted(path for ending in ENDINGS for path in folder.glob(f"{part}*{ending}") if _is_part(path, part))
        if not files:
            problems.append(f"{folder}: holds no {part} table ({part}*.parquet, .jsonl, .csv or .tsv).")
        return read_tables(files, columns=[*self.facts.columns, "label"], problems=problems)

    def _part(self, table: Table, split: Split) -> Index:
        """Return which rows of train a split takes: first what is held out, then the subset of the rest."""
        targets = list(table.columns["label"])
        texts = list(zip(*(table.columns[name] for name in self.facts.columns), strict=True))
        kept: Index = np.arange(len(table))
        held: Index = np.empty(0, np.int64)
        if self.selection == "held_out":
            share = min(self.val_share, self.most_val / max(1, len(table)))
            kept, held = hold_out(targets, share=share, seed=self.split_seed, same=texts)
        kept = kept[subset([targets[i] for i in kept], count=self.train_examples, seed=self.split_seed)]
        return {"train": kept, "val": held, "train+val": np.concatenate([kept, held])}[split]

    def _wrong_labels(self, table: Table) -> list[str]:
        wrong = []
        for row, label in enumerate(table.columns["label"]):
            if self._is_right(label):
                continue
            rule = f"{VALUES[0]:g} to {VALUES[1]:g}" if self.target == "value" else f"0 to {len(self.labels) - 1}"
            wrong.append(f"{table.where(row)}: label {label!r} is outside of {rule}, the labels of {self.name!r}.")
        return wrong

    def _is_right(self, label: object) -> bool:
        if self.target == "value":
            return isinstance(label, int | float) and VALUES[0] <= label <= VALUES[1]
        return isinstance(label, int) and 0 <= label < len(self.labels)


@tasks.register("glue/cola", "glue/mnli", "glue/mrpc", "glue/qnli", "glue/qqp", "glue/rte", "glue/sst2")
class GlueClassification(Glue):
    """GLUE: sentences or pairs of them in two or three classes; the validation split is scored, a part of train selects.

    Example:
        >>> tasks.build("glue/cola").metric
        'matthews'
    """


@tasks.register("glue/stsb")
class GlueSimilarity(Glue):
    """GLUE's STS-B: how similar two sentences are, from 0 to 5; squared error, scored by Pearson's correlation.

    Example:
        >>> tasks.build("glue/stsb").num_classes
        1
    """

    @property
    def target(self) -> Target:
        """A number."""
        return "value"


def _is_part(path: Path, part: str) -> bool:
    """Whether a file is `part` itself or one of its numbered pieces: `validation` is not `validation_matched`."""
    rest = path.name[len(part) :]
    return rest[:1] in (".", "-")
