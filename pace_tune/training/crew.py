"""All lanes of a worker, in as many populations as they have structures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pace_tune.methods.adapted import Adapted, share_frozen
from pace_tune.training.compiling import Compiler
from pace_tune.training.data import ResidentData
from pace_tune.training.judge import Judge
from pace_tune.training.measures import measure
from pace_tune.training.population import Lane, Population, structure
from pace_tune.training.pretrained import Pretrained
from pace_tune.training.team import SOLO, BrokenTeamError, Team

Report = dict[str, Any]


class Crew:
    """Lanes that come and go between epochs on one frozen backbone.

    Args:
        model: The pretrained backbone; populations share its weights.
        train: Split to train on.
        val: Split to select on; None where it is trained on, and then nothing is selected or measured.
        judge: The task's loss and scores.
        team: Processes with a crew of the same lanes, which train each batch together.
        compiler: Compiles the blocks of what trains; None does not.
        capture: Record training steps as CUDA graphs where they can be.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        train: ResidentData,
        val: ResidentData | None,
        judge: Judge,
        team: Team = SOLO,
        compiler: Compiler | None = None,
        capture: bool = False,
    ) -> None:
        self.model, self.train, self.val, self.judge, self.team = model, train, val, judge, team
        self.compiler, self.capture = compiler, capture
        self._lanes: dict[str, Lane] = {}
        self._best: dict[str, tuple[float, int]] = {}
        self._alone: set[str] = set()
        self._rejoining: set[str] = set()
        self._populations: dict[str, Population] = {}
        self._probes: dict[str, Adapted] = {}
        self._pretrained = None if val is None else Pretrained(model, val)

    def add(self, lane: Lane, *, past: Sequence[Report] = ()) -> None:
        """Take a lane, in the place of one of its name if there is one; it trains from the next epoch on."""
        self.drop(lane.name)
        self._lanes[lane.name] = lane
        for report in past if self.val is not None else ():
            self._improve(lane.name, report["metrics"][f"val/{self.judge.metric}"], report["epoch"])

    def drop(self, name: str) -> None:
        """Let a lane go."""
        if name in self._lanes:
            del self._lanes[name]
            self._best.pop(name, None)
            self._alone.discard(name)
            self._rejoining.discard(name)

    def lane(self, name: str) -> Lane:
        """Return a lane with its newest state."""
        lane = self._lanes[name]
        population = self._population_of(lane)
        lane.state = population.read(population.lanes.index(lane))
        return lane

    def adapted_lane(self, lane: Lane) -> Adapted:
        """Return the model with one lane's parameters, apart from the populations."""
        return self._population(share_frozen(self.model), [lane]).adapted

    def epoch(self) -> list[Report]:
        """Train every lane for one epoch and report on each."""
        for name in self._rejoining:
            self.lane(name)
            self._alone.discard(name)
        self._rejoining.clear()
        groups: dict[str, list[Lane]] = {}
        for lane in self._lanes.values():
            groups.setdefault(self._key(lane), []).append(lane)
        self._populations = {key: p for key, p in self._populations.items() if key in groups}
        self._probes = {key: p for key, p in self._probes.items() if key in groups}
        return [report for key, lanes in groups.items() for report in self._group_epoch(key, lanes)]

    def _group_epoch(self, key: str, lanes: list[Lane]) -> list[Report]:
        try:
            with self.team.together():
                population = self._prepared(key, lanes)
            trained = population.run_epoch()
            with self.team.together():
                return self._reports(population, trained)
        except (torch.AcceleratorError, BrokenTeamError):
            raise  # the device, or another process, is lost to this one: a new worker goes on from the checkpoints
        except Exception as error:  # noqa: BLE001  (whatever it was, it is one lane's and must not end the others)
            failed = self._populations.pop(key, None)
            if failed is not None:
                failed.rewind()
            if len(lanes) == 1:
                return [self._failure(lanes[0], error)]
        # Which lane it was is found by running each alone from where it stood.
        self._alone.update(lane.name for lane in lanes)
        reports = [report for lane in lanes for report in self._group_epoch(self._key(lane), [lane])]
        sound = {report["lane"] for report in reports if report["state"] == "running"}
        if len(sound) < len(lanes):  # it was found; where all are sound alone, being together was the matter
            self._rejoining |= sound
        return reports

    def _prepared(self, key: str, lanes: list[Lane]) -> Population:
        population = self._populations.get(key)
        if population is None:
            model = share_frozen(self.model)
            population = self._population(model, lanes)
            self._populations[key] = population
        elif population.lanes != lanes:
            population.set_lanes(lanes)
        return population

    def _reports(self, population: Population, trained: Mapping[str, Tensor]) -> list[Report]:
        scores = {} if self.val is None else self.judge.scores(population.adapted, self.val)
        columns = {f"train/{key}": value for key, value in trained.items() if key != "samples_per_s"}
        columns |= {f"val/{key}": value for key, value in scores.items()} | {"speed/samples_per_s": trained["samples_per_s"]}
        if self.train.targets.is_cuda:
            columns["speed/gpu_memory_gib"] = torch.full_like(trained["samples_per_s"], torch.cuda.max_memory_allocated() / 2**30)
        rows = {key: value.tolist() for key, value in columns.items()}
        due = [i for i, lane in enumerate(population.lanes) if lane.run.measure.due(lane.state.epoch, epochs=lane.run.optim.epochs)]
        measured = self._measured(population, due, self.val, scores) if due and self.val is not None else {}
        reports = []
        for i, lane in enumerate(population.lanes):
            metrics = {key: values[i] for key, values in rows.items()}
            if i in due:
                metrics |= {key: values[due.index(i)] for key, values in measured.items()}
            reports.append(self._report(lane, metrics))
        return reports

    def _measured(self, population: Population, due: list[int], val: ResidentData, scores: Mapping[str, Tensor]) -> dict[str, list[float]]:
        """Measure the lanes whose turn it is; lanes of different age come to it in different epochs."""
        lanes = [population.lanes[i] for i in due]
        adapted = population.adapted if len(due) == len(population.lanes) else self._apart(population, due)
        config = lanes[0].run.measure
        found = measure(
            adapted,
            train=self.train,
            val=val,
            criterion=self.judge.criterion,
            config=config,
            initial_heads=[lane.initial_head for lane in lanes],
            pretrained=self._pretrained,
        )
        seen_KNC, limit = found.train_logits_KNC, min(config.gap_samples, len(self.train))
        known = seen_KNC if seen_KNC is not None and seen_KNC.shape[1] == limit else None
        clean = self.judge.gap_scores(adapted, self.train, limit=limit, logits_KNC=known)
        # A gap is positive where training does better; a loss is better when it is lower.
        signs = {key: -1 if key == "loss" or not self.judge.higher_is_better else 1 for key in clean}
        gaps = {f"gap/{key}": signs[key] * (value - scores[key][due]) for key, value in clean.items() if key in scores}
        return {key: value.tolist() for key, value in ({f"measure/{key}": value for key, value in found.values.items()} | gaps).items()}

    def _apart(self, population: Population, some: list[int]) -> Adapted:
        """Return the model with some of a population's lanes."""
        key = self._key(population.lanes[0])
        methods = [population.lanes[i].method for i in some]
        if key not in self._probes:
            self._probes[key] = Adapted(share_frozen(self.model), methods[:1], seeds=[0]).eval()
        probe = self._probes[key]
        probe.set_lanes(methods, [population.adapted.lane_values(i) for i in some])
        return probe

    def _report(self, lane: Lane, metrics: dict[str, float]) -> Report:
        epoch, epochs = lane.state.epoch, lane.run.optim.epochs
        state, reason = "running" if epoch < epochs else "finished", ""
        broken = [key for key in ("train/loss", "val/loss") if not math.isfinite(metrics.get(key, 0.0))]
        if broken:
            state, reason = "diverged", f"{broken[0]} is {metrics[broken[0]]} in epoch {epoch}"
        elif self.val is not None:
            self._improve(lane.name, metrics[f"val/{self.judge.metric}"], epoch)
        if lane.name in self._best:
            metrics[f"best/{self.judge.metric}"], metrics["best/step"] = self._best[lane.name]
        return {"lane": lane.name, "epoch": epoch, "epochs": epochs, "state": state, "reason": reason, "metrics": metrics}

    def _failure(self, lane: Lane, error: Exception) -> Report:
        state = "out_of_memory" if isinstance(error, torch.OutOfMemoryError) else "failed"
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        epochs = lane.run.optim.epochs
        return {"lane": lane.name, "epoch": lane.state.epoch + 1, "epochs": epochs, "state": state, "reason": reason, "metrics": {}}

    def _improve(self, name: str, value: float, epoch: int) -> None:
        if name not in self._best or self.judge.better(value, self._best[name][0]):
            self._best[name] = (value, epoch)

    def _population(self, model: nn.Module, lanes: list[Lane]) -> Population:
        criterion, metric = self.judge.criterion, self.judge.step_metric
        return Population(
            model, lanes, train=self.train, criterion=criterion, metric=metric, team=self.team, compiler=self.compiler, capture=self.capture
        )

    def _key(self, lane: Lane) -> str:
        own = lane.name if lane.name in self._alone or not lane.method.runs_in_lanes else ""
        return structure(lane.run) + own

    def _population_of(self, lane: Lane) -> Population:
        return self._populations[self._key(lane)]
