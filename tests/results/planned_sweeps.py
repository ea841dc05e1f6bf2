"""Sweep folders as a sweep leaves them: a real Optuna database, study file and lane histories."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

STUDY = """
task: {task}
backbone: vit_nano_cifar10
method: {{name: lora_add, rank: {{int: [2, 16], log: true}}}}
objective:
  name: {{choice: [plain, pace]}}
  sigma: {{float: [0.1, 2.0]}}
  lambda: {{float: [0.01, 10], log: true}}
optim: {{lr: {{float: [1.0e-4, 1.0e-2], log: true}}, epochs: {epochs}}}
search: {{trials: 16}}
"""


@dataclass
class Planned:
    """A trial to be written: `value` and `loss` are those of its last epoch."""

    objective: str = "pace"
    value: float = 0.9
    loss: float = 0.3
    state: str = "finished"
    epochs: int = 10
    reason: str = ""
    rank: int = 4
    seed: int | None = None
    after: int = 0
    """Epochs that its lane trained on, until it heard that its trial was stopped."""
    gap_until: int | None = None
    """The last epoch that measured the gap; None for all."""
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        noise = {"objective.sigma": 1.25, "objective.lambda": 0.5} if self.objective == "pace" else {}
        seed = {} if self.seed is None else {"seed": self.seed}
        return {"method.rank": self.rank, "objective.name": self.objective, "optim.lr": 0.001, **noise, **seed}


SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "method.rank": optuna.distributions.IntDistribution(2, 16, log=True),
    "objective.name": optuna.distributions.CategoricalDistribution(["plain", "pace"]),
    "objective.sigma": optuna.distributions.FloatDistribution(0.1, 2.0),
    "objective.lambda": optuna.distributions.FloatDistribution(0.01, 10, log=True),
    "optim.lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
    "seed": optuna.distributions.IntDistribution(0, 9),
}
TOLD = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "running": TrialState.RUNNING, "waiting": TrialState.WAITING}


_UNTIL = (TrialState.RUNNING, TrialState.PRUNED)
"""What the books know of these only by the epoch."""


def write_sweep(
    output: Path,
    trials: Iterable[Planned],
    *,
    name: str = "digits",
    task: str = "digits",
    data: str = "",
    epochs: int = 10,
    direction: str = "maximize",
) -> Path:
    folder = output / name
    folder.mkdir(parents=True)
    trials = list(trials)
    seeds = "seed: {int: [0, 9]}\n" if any(trial.seed is not None for trial in trials) else ""
    named = f"{{name: {task}, path: {data}}}" if data else task
    (folder / "study.yaml").write_text(STUDY.format(task=named, epochs=epochs) + seeds)
    study = optuna.create_study(study_name=name, storage=f"sqlite:///{folder / 'optuna.db'}", direction=direction)
    for number, trial in enumerate(trials):
        study.add_trial(frozen(trial))
        write_history(folder / "lanes" / f"t{number:04d}", trial, number=number, epochs=epochs)
    return folder


def frozen(trial: Planned) -> optuna.trial.FrozenTrial:
    state = TOLD.get(trial.state, TrialState.FAIL)
    done = state in (TrialState.COMPLETE, TrialState.PRUNED)
    return optuna.trial.create_trial(
        state=state,
        value=trial.value if done else None,
        params=trial.params if state != TrialState.WAITING else {},
        distributions={key: SPACE[key] for key in trial.params} if state != TrialState.WAITING else {},
        intermediate_values={trial.epochs if done else 1: trial.value} if trial.epochs and state in _UNTIL else {},
    )


def write_history(folder: Path, trial: Planned, *, number: int, epochs: int) -> None:
    if trial.state == "waiting" or not trial.epochs:
        return
    folder.mkdir(parents=True)
    lines = [json.dumps(report(trial, epoch, number=number, epochs=epochs)) for epoch in range(1, trial.epochs + trial.after + 1)]
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")


def report(trial: Planned, epoch: int, *, number: int, epochs: int) -> dict[str, Any]:
    share = 1 - math.exp(-5 * epoch / trial.epochs)
    last = epoch == trial.epochs
    state = {"pruned": "running", "waiting": "running"}.get(trial.state, trial.state) if last else "running"
    metrics = {
        "val/accuracy": trial.value if last else 0.1 + (trial.value - 0.1) * share,
        "val/loss": trial.loss if last else 2.3 + (trial.loss - 2.3) * share,
        **({"gap/accuracy": 0.05 * epoch} if trial.gap_until is None or epoch <= trial.gap_until else {}),
        "best/accuracy": trial.value,
        **trial.extra,
    }
    if epoch % 2 == 0 or last:
        strength = 0.5 if trial.objective == "pace" else 1.0
        metrics |= {"measure/grad_norm": strength * (3 - 2 * share + 0.1 * number), "measure/fp_distance": strength * share * (1 + number)}
    reason = trial.reason if last else ""
    return {"lane": f"t{number:04d}", "epoch": epoch, "epochs": epochs, "state": state, "reason": reason, "metrics": metrics}
