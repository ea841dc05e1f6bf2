"""A sweep of forty trials with a known truth, as a sweep leaves it: database, histories, events of the spool.

Truth: noise near sigma 1 and lambda 0.5 is best, the learning rate matters most, the rank hardly; the gap grows with the
gradient norm by itself, and with the FP-distance only because both grow while training fits.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from tests.results.planned_sweeps import SPACE, STUDY

EPOCHS, RUNGS = 30, (4, 12)


def write_planted(output: Path, *, name: str = "planted", trials: int = 40, seed: int = 0, task: str = "digits") -> Path:
    folder = output / name
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY.format(task=task, epochs=EPOCHS))
    study = optuna.create_study(study_name=name, storage=f"sqlite:///{folder / 'optuna.db'}", direction="maximize")
    study.set_user_attr("sweep_id", f"{name}-id")
    draw = random.Random(seed)
    runs = [_Trial(draw, number) for number in range(trials)]
    for run in runs:
        study.add_trial(run.frozen())
        _write(folder / "lanes" / run.lane / "history.jsonl", run.reports())
    _write(folder / "spool" / "events.jsonl", [event for run in runs for event in run.events()])
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class _Trial:
    def __init__(self, draw: random.Random, number: int) -> None:
        self.lane, self.number = f"t{number:04d}", number
        pace = number != 1 and draw.random() < 0.7
        self.params = {
            "method.rank": draw.randint(2, 16),
            "objective.name": "pace" if pace else "plain",
            "optim.lr": 10 ** draw.uniform(-4, -2),
        }
        if pace:
            self.params |= {"objective.sigma": draw.uniform(0.1, 2.0), "objective.lambda": 10 ** draw.uniform(-2, 1)}
        off = math.log10(self.params["optim.lr"]) + 2.7
        gain = 0.08 * math.exp(
            -((self.params.get("objective.sigma", 9) - 1) ** 2) - (math.log10(self.params.get("objective.lambda", 0.5)) + 0.3) ** 2
        )
        self.value = min(0.97, 0.86 - 0.16 * off**2 + gain + draw.gauss(0, 0.008))
        self.speed = 0.06 + 0.2 * 10 ** min(0.0, off)
        self.gradient = math.exp(draw.gauss(0, 0.5)) * (0.6 if pace else 1.2)
        self.broken = number == 7
        self.epochs = 6 if self.broken else EPOCHS if number < 2 or self.value > 0.8 else RUNGS[self.value > 0.7]

    @property
    def state(self) -> TrialState:
        return TrialState.FAIL if self.broken else TrialState.COMPLETE if self.epochs == EPOCHS else TrialState.PRUNED

    def accuracy(self, epoch: int) -> float:
        return self.value - (self.value - 0.1) * math.exp(-2.5 * self.speed * epoch)

    def frozen(self) -> optuna.trial.FrozenTrial:
        values = {epoch: self.accuracy(epoch) for epoch in range(1, self.epochs + 1)}
        outcome = {TrialState.FAIL: "diverged", TrialState.PRUNED: "pruned"}.get(self.state, "finished")
        return optuna.trial.create_trial(
            state=self.state,
            value=None if self.broken else values[self.epochs],
            params=self.params,
            distributions={key: SPACE[key] for key in self.params},
            intermediate_values=values,
            user_attrs={"outcome": outcome, "reason": "loss is nan in epoch 6" if self.broken else ""},
        )

    def reports(self) -> list[dict[str, Any]]:
        return [self._report(epoch) for epoch in range(1, self.epochs + 1)]

    def _report(self, epoch: int) -> dict[str, Any]:
        fitted = 1 - math.exp(-self.speed * epoch)
        train = 2.3 * (1 - fitted) + 0.02
        gap = 0.5 * self.gradient * fitted
        state = "running" if epoch < self.epochs or self.state == TrialState.PRUNED else "diverged" if self.broken else "finished"
        metrics = {
            "train/loss": train * 1.1,
            "train/task_loss": train * 1.05,
            "val/accuracy": self.accuracy(epoch),
            "val/loss": train + gap,
        }
        metrics |= {"best/accuracy": self.accuracy(epoch), "best/step": epoch, "speed/samples_per_s": 200.0}
        if epoch % 2 == 0 or epoch == self.epochs:
            metrics |= {
                "gap/loss": gap,
                "gap/accuracy": gap / 4,
                "measure/grad_norm": self.gradient * (1 + fitted),
                "measure/fp_distance": 20 * fitted**2,
            }
        reason = "loss is nan in epoch 6" if state == "diverged" else ""
        return {"lane": self.lane, "epoch": epoch, "epochs": EPOCHS, "state": state, "reason": reason, "metrics": metrics}

    def events(self) -> list[dict[str, Any]]:
        start = 1_700_000_000_000 + 9_000 * self.number
        middle = [
            {"kind": "metrics", "lane": self.lane, "step": e, "time_ms": start + 1_000 * e, "values": {}} for e in range(1, self.epochs + 1)
        ]
        end = {"kind": "end", "lane": self.lane, "time_ms": start + 1_000 * self.epochs + 500, "status": "FINISHED", "tags": {}}
        return [{"kind": "start", "lane": self.lane, "time_ms": start, "params": {}}, *middle, end]
