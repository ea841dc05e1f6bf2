"""How a task is judged: its loss, its scores, and which of them decides."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pace_tune.benchmarks.task import Task
from pace_tune.methods.adapted import Adapted
from pace_tune.models.backbone import InputSpec
from pace_tune.pace.criterion import CRITERIA, Criterion
from pace_tune.training.data import ResidentData
from pace_tune.training.scoring import Seen, evaluate, judged


@dataclass(frozen=True)
class Judge:
    """Scores that are read off the logits.

    Args:
        criterion: The loss.
        metrics: Names of scores; the first decides which epoch and which trial is best.
        higher_is_better: Its direction.
    """

    criterion: Criterion
    metrics: tuple[str, ...] = ("accuracy",)
    higher_is_better: bool = True

    @property
    def metric(self) -> str:
        """The score that decides."""
        return self.metrics[0]

    @property
    def step_metric(self) -> str:
        """The score of training batches."""
        return self.metrics[0]

    def scores(self, adapted: Adapted, data: ResidentData, *, see: Seen | None = None) -> dict[str, Tensor]:
        """Return ``loss`` and every score of a split, (K,) each; `see` is given the logits and targets, if they are of classes."""
        return evaluate(adapted, data, criterion=self.criterion, metrics=self.metrics, see=see)

    def gap_scores(self, adapted: Adapted, data: ResidentData, *, limit: int, logits_KNC: Tensor | None = None) -> dict[str, Tensor]:
        """Return what of `scores` is cheap enough to take on training samples too, for the generalisation gap.

        Args:
            limit: Samples, the first ones.
            logits_KNC: Of those samples, where they are known already.
        """
        if logits_KNC is None:
            return evaluate(adapted, data, criterion=self.criterion, metrics=self.metrics, limit=limit)
        return judged(logits_KNC, data.targets[: logits_KNC.shape[1]], criterion=self.criterion, metrics=self.metrics)

    def better(self, value: float, than: float) -> bool:
        """Whether one value of the deciding score beats another."""
        return value > than if self.higher_is_better else value < than


def judge_of(task: Task, *, spec: InputSpec) -> Judge:
    """Return the judge of a task on a backbone that is fed as `spec` says."""
    if task.target == "token":
        from pace_tune.training.generation import GenerationJudge

        return GenerationJudge.of(task, spec=spec)
    return Judge(CRITERIA[task.target], task.metrics, task.higher_is_better)
