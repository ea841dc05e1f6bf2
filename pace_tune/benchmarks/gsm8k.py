"""GSM-8K (Cobbe et al. 2021): school mathematics in words, answered by generation.

``<root>/[gsm8k/]{train,test}.jsonl`` with ``question`` and ``answer``; an answer ends in one line ``#### <number>``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from pace_tune.benchmarks.answers import flexible_answer, strict_answer, without_calculator
from pace_tune.benchmarks.problems import find_folder, first_file, refuse
from pace_tune.benchmarks.splits import subset
from pace_tune.benchmarks.tables import Table, read_tables
from pace_tune.benchmarks.task import Examples, Index, Modality, Split, Target, Task
from pace_tune.benchmarks.text_task import CHUNK, padded, tokenizer_of
from pace_tune.benchmarks.waiting import waiting
from pace_tune.errors import DataError
from pace_tune.registry import tasks

if TYPE_CHECKING:
    from pace_tune.models.backbone import InputSpec

INSTRUCTION = "Answer the question below. Think step by step, then give the final number after '####'."
IGNORED = -100


@tasks.register("gsm8k")
class Gsm8k(Task):
    """Grade-school mathematics: the loss is on the answer's tokens, the scores are on greedily generated answers.

    ``strict`` counts the number after ``####``, ``flexible`` the last number of the text. GSM-8K has no validation split:
    `val` is held out of train by `split_seed`. Generation is what costs, so the size of `val` bounds it.

    Args:
        val_examples: Problems held out of train; each epoch generates an answer to every one.
        train_examples: Take so many of the others; null takes all.
        test_examples: Score the first so many test problems; null scores all 1,319.
        max_new_tokens: Longest answer.
        instruction: Written before each question; through the tokenizer's chat template where it has one.
        calculator: Keep the ``<<...>>`` marks of the solutions.
        split_seed: Which problems are held out.

    Example:
        >>> Gsm8k().metrics
        ('strict', 'flexible')
    """

    modality: ClassVar[Modality] = "causal"
    val_examples: int = Field(default=128, ge=1)
    train_examples: int | None = Field(default=None, ge=1)
    test_examples: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    instruction: str = INSTRUCTION
    calculator: bool = False
    split_seed: int = Field(default=0, ge=0)

    @property
    def target(self) -> Target:
        """Tokens."""
        return "token"

    @property
    def columns(self) -> tuple[str, ...]:
        """The question."""
        return ("question",)

    @property
    def labels(self) -> tuple[str, ...]:
        """Nothing: answers are text."""
        return ()

    @property
    def metric(self) -> str:
        """The reading of GSM-8K's authors."""
        return "strict"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Both readings."""
        return "strict", "flexible"

    def load(self, split: Split, *, spec: InputSpec, root: Path | None = None, seed: int = 0, cache: Path | None = None) -> Examples:
        """Return prompt and answer as one sequence, the answer (and the end of text) being what is scored.

        Problems that do not fit into the backbone's length are left out of train, and cut elsewhere.
        """
        import torch

        problems: list[str] = []
        table = self._part(split, root, problems)
        refuse(problems)
        tokenizer = tokenizer_of(spec)
        rows = self._rows(table, tokenizer, label=f"{self.name} {split}")
        fits = [i for i, (prompt, answer) in enumerate(rows) if split != "train" or len(prompt) + len(answer) <= spec.max_length]
        if not fits:
            raise DataError(f"task {self.name!r}: no problem of {split} fits into {spec.max_length} tokens; raise `backbone.max_length`.")
        if len(fits) < len(rows):
            left_out = len(rows) - len(fits)
            warnings.warn(f"gsm8k: {left_out} of {len(rows)} {split} problems exceed {spec.max_length} tokens.", stacklevel=2)
        kept = [self._cut(*rows[i], length=spec.max_length) for i in fits]
        ids = [[*prompt, *answer] for prompt, answer in kept]
        inputs = padded({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}, pad_id=tokenizer.pad_token_id or 0)
        targets = torch.full_like(inputs["input_ids"], IGNORED)
        for row, (prompt, answer) in enumerate(kept):
            targets[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        return Examples(inputs, targets, tuple(str(table.columns["answer"][i]) for i in fits))

    def problems(self, split: Split, *, root: Path | None = None) -> list[str]:
        """Return rows without a marked number, and files that are missing."""
        problems: list[str] = []
        self._part(split, root, problems)
        return problems

    def judge_texts(self, generated: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
        """Return the share of generated answers whose number equals the reference's, under both readings."""
        pairs = [(text, strict_answer(reference)) for text, reference in zip(generated, references, strict=True)]
        return {
            "strict": float(np.mean([strict_answer(text) == gold for text, gold in pairs])),
            "flexible": float(np.mean([flexible_answer(text) == gold for text, gold in pairs])),
        }

    def _part(self, split: Split, root: Path | None, problems: list[str]) -> Table:
        folder = find_folder(root, ["gsm8k", "."], task=self.name)
        name = "test" if split == "test" else "train"
        path = first_file(folder, [f"{name}.jsonl", f"{name}*.parquet"])
        if path is None:
            problems.append(f"{folder}: holds no {name}.jsonl.")
            return Table({"question": (), "answer": ()}, ())
        table = read_tables([path], columns=("question", "answer"), problems=problems)
        for row, answer in enumerate(table.columns["answer"]):
            if strict_answer(str(answer)) is None:
                problems.append(f"{table.where(row)}: the answer has no line `#### <number>`.")
        if len(table) <= self.val_examples and split != "test":
            problems.append(f"{path}: {self.val_examples} problems are to be held out, but it holds {len(table)}.")
        return table if problems else table.take(self._index(split, len(table)))

    def _index(self, split: Split, count: int) -> Index:
        if split == "test":
            return np.arange(count)[: self.test_examples]
        order = np.random.default_rng(self.split_seed).permutation(count)
        held, rest = np.sort(order[: self.val_examples]), np.sort(order[self.val_examples :])
        rest = rest[subset([0] * len(rest), count=self.train_examples, seed=self.split_seed)]
        return {"train": rest, "val": held, "train+val": np.concatenate([rest, held])}[split]

    def _rows(self, table: Table, tokenizer: Any, *, label: str) -> list[tuple[list[int], list[int]]]:
        rows: list[tuple[list[int], list[int]]] = []
        end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        starts = range(0, len(table), CHUNK)
        for start in waiting(starts, total=len(starts), label=f"tokenising {label}"):
            chunk = slice(start, start + CHUNK)
            prompts = [self.prompt(str(question), tokenizer) for question in table.columns["question"][chunk]]
            answers = [self._answer(str(answer)) for answer in table.columns["answer"][chunk]]
            # A chat template writes its own start of text.
            heads = tokenizer(prompts, add_special_tokens=not tokenizer.chat_template)["input_ids"]
            tails = tokenizer(answers, add_special_tokens=False)["input_ids"]
            rows.extend((head, [*tail, *end]) for head, tail in zip(map(_without_end(end), heads), tails, strict=True))
        return rows

    def prompt(self, question: str, tokenizer: Any) -> str:
        """Return what the model reads before it answers."""
        text = f"{self.instruction}\n{question}" if self.instruction else question
        if not tokenizer.chat_template:
            return f"{text}\n"
        message = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))

    def _answer(self, answer: str) -> str:
        return answer if self.calculator else without_calculator(answer)

    def _cut(self, prompt: list[int], answer: list[int], *, length: int) -> tuple[list[int], list[int]]:
        """Cut to a length: the prompt's start goes first, then the answer's end; at least one answer token stays."""
        prompt = prompt[-(length - 1) :]
        return prompt, answer[: length - len(prompt)]


def _without_end(end: list[int]) -> Any:
    """Return a function that drops the end-of-text token that some tokenizers put behind a prompt."""
    return lambda ids: ids[:-1] if end and ids and ids[-1] == end[0] else ids
