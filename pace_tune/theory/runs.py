"""Finished runs as their files tell them: the configuration and every report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pace_tune.errors import DataError
from pace_tune.theory.statistics import Floats

CHECKPOINT, HISTORY = "lane.safetensors", "history.jsonl"


@dataclass(frozen=True)
class Run:
    """One finished lane.

    Attributes:
        folder: Where its history and checkpoint are.
        config: Its `RunConfig` as plain values.
        reports: Metrics by epoch, oldest first.
    """

    folder: Path
    config: Mapping[str, Any]
    reports: tuple[tuple[int, Mapping[str, float]], ...]

    @property
    def objective(self) -> Mapping[str, Any]:
        """The objective's name and fields."""
        found: Mapping[str, Any] = self.config["objective"]
        return found

    @property
    def kind(self) -> str:
        """The objective's name; PACE without noise on the head is a kind of its own."""
        name = str(self.objective["name"])
        return f"{name} (σ_head = 0)" if name == "pace" and self.objective.get("head_noise") is False else name

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config["seed"])

    @cached_property
    def context(self) -> str:
        """All that is neither objective, nor seed, nor what is measured: objectives compare only within one context."""
        return json.dumps({key: value for key, value in self.config.items() if key not in {"objective", "seed", "measure"}}, sort_keys=True)

    @cached_property
    def problem(self) -> str:
        """Task, backbone and data: what runs must share for their losses and norms to be of the same kind."""
        return json.dumps({key: self.config[key] for key in ("task", "backbone", "data")}, sort_keys=True)

    @cached_property
    def variant(self) -> str:
        """The objective with all its fields, as a key."""
        return json.dumps(self.objective, sort_keys=True)

    def series(self, key: str) -> tuple[Floats, Floats]:
        """Return epochs and values of a metric, where it was reported.

        Derived ones: ``measure/jacobian_relative`` is the Jacobian norm over the mean logit norm, ``clean/loss`` the training
        loss without noise, ``clean/<metric>`` the same for a metric.
        """
        points = [(epoch, value) for epoch, metrics in self.reports if (value := _value(metrics, key)) is not None]
        return np.array([e for e, _ in points], dtype=np.float64), np.array([v for _, v in points], dtype=np.float64)

    def last(self, key: str) -> float:
        """Return a metric's last value; NaN where it was never reported."""
        values = self.series(key)[1]
        return float(values[-1]) if len(values) else math.nan

    @property
    def measured(self) -> int:
        """In how many epochs norms and distances were measured."""
        return len(self.series("gap/loss")[1])

    @cached_property
    def metric(self) -> str:
        """The task's metric, e.g. ``accuracy``."""
        names = [key.partition("/")[2] for key in self.reports[-1][1] if key.startswith("best/")]
        return next((name for name in names if name != "step"), "accuracy")


def read_runs(*paths: Path) -> list[Run]:
    """Return every finished run below some folders: lanes, sweeps or folders of sweeps.

    Of runs that several studies share, the one that was measured most often counts, and the others do not.

    Raises:
        DataError: There is none.
    """
    folders = sorted({history.parent for path in paths for history in _histories(Path(path))})
    found: dict[tuple[str, str, int], Run] = {}
    for run in filter(None, map(_read, folders)):
        key = (run.context, run.variant, run.seed)
        if key not in found or run.measured > found[key].measured:
            found[key] = run
    runs = list(found.values())
    if not runs:
        raise DataError(f"no finished run in {', '.join(str(path) for path in paths)}: a run's folder holds {HISTORY} and {CHECKPOINT}.")
    return runs


def by_kind(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return runs by the kind of their objective."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.kind, []).append(run)
    return found


def measured_runs(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs in which norms and distances were measured; all where none was."""
    return [run for run in runs if run.measured] or runs


def main_context(runs: Iterable[Run]) -> list[Run]:
    """Return the runs of the context in which most kinds of objective have several seeds, the larger one where two tie."""
    contexts: dict[str, list[Run]] = {}
    for run in runs:
        contexts.setdefault(run.context, []).append(run)

    def weight(context: list[Run]) -> tuple[int, int]:
        return sum(len({run.seed for run in group}) > 1 for group in by_kind(context).values()), len(context)

    return max(contexts.values(), key=weight)


def main_problem(runs: Iterable[Run]) -> list[Run]:
    """Return the runs of the problem that has most, whatever else differs between them, as in any ordinary sweep."""
    problems: dict[str, list[Run]] = {}
    for run in runs:
        problems.setdefault(run.problem, []).append(run)
    return max(problems.values(), key=len)


def representatives(runs: Iterable[Run]) -> dict[str, dict[int, Run]]:
    """Return, per kind, its runs by seed in one setting.

    Of the settings with most seeds it is the one that was measured most often, so that the many settings of a sweep over λ do
    not compete for the best score with the one setting of plain training; of those the one with the best validation score,
    which is what a user would choose by. What claims are about is not looked at.
    """
    chosen: dict[str, dict[int, Run]] = {}
    for kind, group in by_kind(runs).items():
        variants: dict[str, dict[int, Run]] = {}
        for run in group:
            variants.setdefault(run.variant, {})[run.seed] = run
        chosen[kind] = max(variants.values(), key=_fitness)
    return chosen


def _fitness(seeds: Mapping[int, Run]) -> tuple[int, int, float]:
    scores = [run.last(f"val/{run.metric}") for run in seeds.values()]
    return len(seeds), min(run.measured for run in seeds.values()), float(np.mean(scores))


def matched(first: Run, second: Run, key: str) -> tuple[float, float] | None:
    """Return a metric of two runs where each first reached the training loss that both reached.

    The loss is that of `clean/loss`, without noise; between two measured epochs both are interpolated.
    """
    curves = [(run.series("clean/loss")[1], run.series(key)[1]) for run in (first, second)]
    if any(len(loss) < 2 or len(loss) != len(values) for loss, values in curves):
        return None
    level = max(float(loss.min()) for loss, _ in curves)
    return _at(curves[0], level), _at(curves[1], level)


def _at(curve: tuple[Floats, Floats], level: float) -> float:
    loss, values = curve
    after = int(np.argmax(loss <= level))
    if after == 0:
        return float(values[0])
    part = (loss[after - 1] - level) / (loss[after - 1] - loss[after])
    return float(values[after - 1] + part * (values[after] - values[after - 1]))


def _value(metrics: Mapping[str, float], key: str) -> float | None:
    if key == "measure/jacobian_relative":
        norm, size = metrics.get("measure/jacobian_norm"), metrics.get("measure/logit_norm")
        return norm / size if norm is not None and size else None
    if key.startswith("clean/"):
        name = key.partition("/")[2]
        gap, held_out = metrics.get(f"gap/{name}"), metrics.get(f"val/{name}")
        # gap/loss is val - train; for a metric that is to be high it is train - val.
        return None if gap is None or held_out is None else held_out - gap if name == "loss" else held_out + gap
    return metrics.get(key)


def _histories(path: Path) -> Iterator[Path]:
    if path.is_file():
        path = path.parent
    yield from path.rglob(HISTORY)


def _read(folder: Path) -> Run | None:
    reports, state = [], ""
    for line in (folder / HISTORY).read_text(encoding="utf-8").splitlines():
        try:
            report = json.loads(line)
        except ValueError:  # half a line: the process died while writing it
            break
        state = report["state"]
        reports.append((int(report["epoch"]), report["metrics"]))
    if state != "finished":
        return None
    try:
        with safe_open(folder / CHECKPOINT, framework="numpy") as file:
            config = json.loads(file.metadata()["run"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / CHECKPOINT}: not a lane checkpoint ({error}).") from error
    return Run(folder, config, tuple(reports))
