"""Judging a language model by what it says: greedy answers to a split's prompts, all lanes in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from pace_tune.benchmarks.task import Task
from pace_tune.benchmarks.text_task import tokenizer_of
from pace_tune.methods.adapted import Adapted
from pace_tune.models.backbone import InputSpec
from pace_tune.pace.criterion import CRITERIA, IGNORED
from pace_tune.training.data import ResidentData
from pace_tune.training.judge import Judge
from pace_tune.training.scoring import Seen, token_accuracy

ROWS_PER_PASS = 64
"""All lanes together: logits are (rows, tokens, vocabulary), so passes are small."""


@dataclass(frozen=True)
class GenerationJudge(Judge):
    """The loss on answer tokens, and a task's own scores of generated answers.

    Args:
        task: Compares generated texts with references.
        spec: Of the backbone, for its tokenizer.
    """

    task: Any = None
    spec: InputSpec = field(default_factory=InputSpec)

    @classmethod
    def of(cls, task: Task, *, spec: InputSpec) -> GenerationJudge:
        """Return the judge of a task whose target is tokens."""
        return cls(CRITERIA["token"], task.metrics, task.higher_is_better, task, spec)

    @cached_property
    def tokenizer(self) -> Any:
        """Turns tokens into text."""
        return tokenizer_of(self.spec)

    @property
    def step_metric(self) -> str:
        """Training batches are not generated from: the share of answer tokens that are guessed right."""
        return "token_accuracy"

    def scores(self, adapted: Adapted, data: ResidentData, *, see: Seen | None = None) -> dict[str, Tensor]:
        """Return the loss, the share of tokens guessed right, and the task's scores of generated answers."""
        found = self.gap_scores(adapted, data, limit=len(data))
        lanes = self.generate(adapted, data)
        judged = [self.task.judge_texts(texts, data.references) for texts in lanes]
        return found | {metric: found["loss"].new_tensor([scores[metric] for scores in judged]) for metric in self.metrics}

    @torch.no_grad()
    def gap_scores(self, adapted: Adapted, data: ResidentData, *, limit: int, logits_KNC: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss and the share of tokens guessed right, pass by pass: the logits of a split would not fit."""
        count, lanes = min(limit, len(data)), adapted.lanes
        sums: dict[str, Any] = {"loss": 0.0, "token_accuracy": 0.0}
        for rows in _passes(count, lanes=lanes):
            logits = adapted(**data.shared_batch(rows, lanes=lanes)).float()
            logits_KBTV = logits.reshape(lanes, rows.stop - rows.start, *logits.shape[1:])
            targets_KBT = data.targets[rows].expand(lanes, -1, -1)
            share = (rows.stop - rows.start) / count
            sums["loss"] += share * self.criterion.task_loss(logits_KBTV, targets_KBT)
            sums["token_accuracy"] += share * token_accuracy(logits_KBTV, targets_KBT)
        return sums

    @torch.no_grad()
    def generate(self, adapted: Adapted, data: ResidentData) -> list[list[str]]:
        """Return every lane's greedy answer to every prompt."""
        prompts = _prompts(data)
        # Prompts of one length together: little padding, and a long one takes no room from short ones.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        texts = [[""] * len(prompts) for _ in range(adapted.lanes)]
        for part in _passes(len(prompts), lanes=adapted.lanes):
            members = order[part]
            tokens = self._generated(adapted, [prompts[i] for i in members])
            spoken = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for row, text in enumerate(spoken):
                texts[row // len(members)][members[row % len(members)]] = text
        return texts

    def _generated(self, adapted: Adapted, prompts: Sequence[Tensor]) -> Tensor:
        """Return the new tokens of all lanes' rows, lane-major."""
        pad = self.tokenizer.pad_token_id or 0
        longest = max(map(len, prompts))
        # Prompts end where the answer starts, so they are padded at their beginning.
        ids = torch.stack([torch.cat([prompt.new_full((longest - len(prompt),), pad), prompt]) for prompt in prompts])
        mask = torch.stack([(torch.arange(longest, device=ids.device) >= longest - len(prompt)).long() for prompt in prompts])
        adapted.context.rows = len(prompts)
        model = cast(Any, adapted.model)
        room = getattr(model.config, "max_position_embeddings", longest + self.task.max_new_tokens) - longest
        out = model.generate(
            input_ids=ids.repeat(adapted.lanes, 1),
            attention_mask=mask.repeat(adapted.lanes, 1),
            max_new_tokens=max(1, min(self.task.max_new_tokens, room)),
            do_sample=False,
            use_cache=True,
            pad_token_id=pad,
        )
        return cast(Tensor, out[:, longest:])


def _prompts(data: ResidentData) -> list[Tensor]:
    """Return the tokens before the answer of every sample."""
    starts = (data.targets != IGNORED).int().argmax(dim=1).tolist()
    return [ids[:start].to(data.targets.device) for ids, start in zip(data.inputs["input_ids"], starts, strict=True)]


def _passes(count: int, *, lanes: int) -> list[slice]:
    step = max(1, ROWS_PER_PASS // lanes)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
