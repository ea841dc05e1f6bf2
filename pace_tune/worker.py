"""The door between the halves: a worker trains a population of lanes, takes plain mappings in, gives plain reports out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import torch

from pace_tune.benchmarks.check import check_data, class_counts, data_facts
from pace_tune.benchmarks.task import Examples, Split, Task
from pace_tune.errors import ConfigError, MistakesError, PaceTuneError
from pace_tune.files import PREDICTIONS
from pace_tune.methods.method import Method
from pace_tune.models.backbone import Backbone
from pace_tune.pace.objective import Objective
from pace_tune.registry import backbones, tasks
from pace_tune.storage import open_storage
from pace_tune.study.run_config import DataConfig, RunConfig
from pace_tune.study.start import find_source, start_mistakes
from pace_tune.training.capture import captures
from pace_tune.training.compiling import compiler_of
from pace_tune.training.crew import Crew
from pace_tune.training.data import ResidentData
from pace_tune.training.export import export_lane, score_export
from pace_tune.training.history import History
from pace_tune.training.host_memory import keep_freed_memory
from pace_tune.training.judge import judge_of
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane
from pace_tune.training.precision import set_precision
from pace_tune.training.predict import Predictor
from pace_tune.training.predictions import Predictions
from pace_tune.training.sharding import shard_backbone
from pace_tune.training.team import join
from pace_tune.training.warm_start import Trained, trained

Report = dict[str, Any]
# What is known before a lane and what becomes of a finished one comes through the door too.
__all__ = ["Predictor", "Worker", "check_data", "class_counts", "data_facts", "export_lane", "score_export"]


class Worker:
    """One process with a backbone and data in memory, and lanes that come and go. On a CPU the process keeps the memory that it frees.

    Args:
        setup: What all lanes share: ``{"task": ..., "backbone": ..., "data": ..., "precision": "auto", "compile": "auto",
            "cuda_graphs": "auto", "shard_backbone": False}``; the last five may be left out. `shard_backbone` spreads the backbone over
            the team's processes.
        storage: A folder or ``s3://bucket/prefix``; below it each lane keeps its checkpoint and its reports.
        threads: Torch threads; None leaves them.
        device: ``cuda`` or ``cpu``; None takes a GPU if there is one.
        seat: Place in a team of processes that train the same lanes together, see `pace_tune.training.team.Seat`. The leader, of rank 0,
            is called as if it were alone; the others `follow`.

    Raises:
        ConfigError: The setup names something unknown.
        DataError: Data or weights are missing or damaged.
    """

    def __init__(
        self,
        setup: Mapping[str, Any],
        *,
        storage: str | Path,
        threads: int | None = None,
        device: str | None = None,
        seat: Mapping[str, Any] | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.team = join(seat, device=self.device)
        self.storage = open_storage(storage)
        self.task: Task = tasks.build(setup["task"])
        self.backbone: Backbone = backbones.build(setup["backbone"])
        self.data = DataConfig.model_validate(setup.get("data", {}))
        self.judge = judge_of(self.task, spec=self.backbone.spec)
        self._splits: dict[str, ResidentData] = {}
        # In host memory, and from there to the device block by block where it is spread.
        model = self.backbone.build(num_classes=self.task.num_classes, drop_path=0.1)
        self._dtype = set_precision(model, str(setup.get("precision", "auto")), device=self.device)
        if setup.get("shard_backbone", False):
            shard_backbone(model, team=self.team, device=self.device)
        model = model.to(self.device)
        self.crew = Crew(
            model,
            train=self.split(self.data.train_on),
            val=None if self.data.selection in self.data.train_on.split("+") else self.split(self.data.selection),
            judge=self.judge,
            team=self.team,
            compiler=compiler_of(setup.get("compile", "auto"), device=self.device),
            capture=captures(setup.get("cuda_graphs", "auto"), device=self.device),
        )
        self._open: dict[str, History] = {}
        if self.device.type == "cpu":
            keep_freed_memory()  # from here on: what loading freed may go

    def open(self, lane: str, config: Mapping[str, Any]) -> list[Report]:
        """Take a run as a lane, from its checkpoint if there is one; return the reports it made before.

        If the last of them is final, the lane is not opened again.

        Raises:
            ConfigError: The configuration is wrong, or not that of the lane's checkpoint.
        """
        run = RunConfig.model_validate(config)
        self._require_shared(run)
        self._require_divisible(run)
        self.team.tell("open", lane, config)
        history = History(self.storage.below(lane))
        state, past = self._restored(history, run)
        if past and past[-1]["state"] != "running":
            return past
        self.crew.add(Lane(lane, run, state, trained=None if state.values else _trained(run)), past=past)
        self._open[lane] = history
        return past

    def close(self, lane: str) -> None:
        """Give a lane back; its files stay. Unknown lanes are ignored: it may have ended by itself."""
        self.team.tell("close", lane)
        self.crew.drop(lane)
        self._open.pop(lane, None)

    def advance(self) -> list[Report]:
        """Train every open lane for one epoch, keep its state on disk, and report."""
        self.team.tell("advance", sorted(self._open))
        reports = self.crew.epoch()
        for report in reports:
            history, going = self._open[report["lane"]], report["state"] in ("running", "finished")
            history.keep(report, self.crew.lane(report["lane"]) if going else None)
            if report["state"] != "running":
                self.close(report["lane"])
        return reports

    def follow(self) -> None:
        """Do what the team's leader does until it says stop; only the leader writes and reports.

        Raises:
            RuntimeError: The leader is gone, or holds other lanes than this process.
        """
        while (command := self.team.hear())[0] != "stop":
            name, *arguments = command
            if name == "open":
                with suppress(PaceTuneError):  # the leader met it too, and reports it
                    self.open(*arguments)
            elif name == "close":
                self.close(*arguments)
            elif name == "score":
                with suppress(PaceTuneError, RuntimeError):
                    self.score(*arguments)
            elif sorted(self._open) != arguments[0]:
                raise RuntimeError(f"the leader trains {arguments[0]}, but this process {sorted(self._open)}.")
            else:
                self.crew.epoch()

    def memory_share(self) -> float:
        """Return the share of the GPU's memory that was in use at the peak, 0 on a CPU."""
        if self.device.type != "cuda":
            return 0.0
        return torch.cuda.max_memory_reserved(self.device) / torch.cuda.get_device_properties(self.device).total_memory

    def stop(self) -> None:
        """Send the others of the team home."""
        self.team.tell("stop")

    def score(self, lane: str, split: Split) -> dict[str, float]:
        """Return a finished lane's scores on a split, from its checkpoint.

        A task with several test sets gives the mean over them under each score's name, and each set's as ``<set>/<score>``.
        What a classifier said of each test example is kept beside the checkpoint.

        Raises:
            ConfigError: There is no such lane in the storage.
        """
        found_lane = History(self.storage.below(lane)).load()
        if found_lane is None:
            raise ConfigError(f"lane {lane!r} has no checkpoint in {self.storage.location}.")
        state, config = found_lane
        known = Lane(lane, RunConfig.model_validate(config), state)
        if not self.team.lockstep:
            return self._scored(known, split)
        self.team.tell("score", lane, split)
        with self.team.together():
            return self._scored(known, split)

    def _scored(self, lane: Lane, split: Split) -> dict[str, float]:
        adapted = self.crew.adapted_lane(lane)
        kept = Predictions()
        see = kept.see if split == "test" and self.task.target == "class" else None
        sets = self.task.test_sets if split == "test" else ()
        scored: dict[Any, Callable[[Any], ResidentData]] = dict.fromkeys(sets, self._test_set) or {split: self.split}
        found = {name: _first(self.judge.scores(adapted, read(name), see=see)) for name, read in scored.items()}
        if self.team.rank == 0 and (said := kept.as_npz()) is not None:
            self.storage.below(lane.name).write(PREDICTIONS, said)
        if not sets:
            return found[split]
        means = {key: sum(scores[key] for scores in found.values()) / len(found) for key in found[sets[0]]}
        return means | {f"{name}/{key}": value for name, scores in found.items() for key, value in scores.items()}

    def split(self, split: Split) -> ResidentData:
        """Return a split, read once."""
        if split not in self._splits:
            examples = self.task.load(split, spec=self.backbone.spec, root=self.data.root, cache=self.data.cache)
            self._splits[split] = self._resident(examples)
        return self._splits[split]

    def _test_set(self, name: str) -> ResidentData:
        return self._resident(self.task.load_test(name, spec=self.backbone.spec, root=self.data.root, cache=self.data.cache))

    def _resident(self, examples: Examples) -> ResidentData:
        return ResidentData.of(examples, spec=self.backbone.spec, device=self.device, dtype=self._dtype)

    def _require_shared(self, run: RunConfig) -> None:
        """Refuse a run that would silently learn something else than it says."""
        ours = {"task": self.task, "backbone": self.backbone}
        ours |= {f"data.{key}": getattr(self.data, key) for key in ("root", "selection", "train_on")}
        for path, value in ours.items():
            found = attrgetter(path)(run)
            if found != value:
                raise ConfigError(f"all lanes of a worker share it: `{value!r}` must hold, but got {found!r}.", path=path)

    def _require_divisible(self, run: RunConfig) -> None:
        """Refuse a run whose batches a team cannot divide."""
        size, objective = self.team.size, cast(Objective, run.objective)
        if size > 1 and not objective.sums_over_parts:
            raise ConfigError(f"{objective.name!r} needs the whole batch in one process, but {size} share it.", path="objective")
        if size > 1 and min(run.optim.batch_size, len(self.crew.train)) < 2 * size:
            raise ConfigError(f"{size} processes share a batch of at least {2 * size}.", path="optim.batch_size")
        if self.team.lockstep and (why_not := cast(Method, run.method).needs_whole_backbone):
            raise ConfigError(f"method {run.method.name!r} does not go with a backbone that is spread: {why_not}.", path="method.name")

    def _restored(self, history: History, run: RunConfig) -> tuple[LaneState, list[Report]]:
        """Return a lane as it was kept, and the reports it made before."""
        state = self._kept(history, run)
        past = history.reports.until(state.epoch)
        # Reports and checkpoint may be of two workers, one of which was thought dead: then the lane begins anew.
        return (state, past) if len(past) >= state.epoch else (LaneState({}), history.reports.until(0))

    def _kept(self, history: History, run: RunConfig) -> LaneState:
        kept = history.load()
        if kept is None:
            return LaneState({})
        state, config = kept
        # As it would be read now: a version that knew fewer fields wrote fewer.
        if RunConfig.model_validate(config) != run:
            raise ConfigError(f"{history.storage.location} holds a lane of another run.")
        return state


def describe_methods(backbone: str, *, progress: Callable[[str], object] = lambda _: None) -> list[dict[str, Any]]:
    """Return one row per method on a backbone: parameters with and without head, and what it can do.

    Raises:
        UnknownNameError: No such backbone.
    """
    from pace_tune.methods.describe import describe

    return describe(backbone, progress=progress)


def verify_runs(
    *folders: Path, figures: Path, models: int | None = None, progress: Callable[[str], None] = lambda _: None
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Return a verdict per claim of the theory for the finished runs below some folders, and the pictures they rest on.

    Args:
        folders: Lanes, sweeps, or folders of sweeps.
        figures: Folder of the pictures.
        models: Checkpoints to open at most; None is `verify.MODELS`.
        progress: Is told what is being done.

    Raises:
        DataError: There is no finished run.
    """
    from pace_tune.theory import verify

    evidence = verify.gather(*folders, models=verify.MODELS if models is None else models, progress=progress)
    return [verdict.as_row() for verdict in verify.verdicts(evidence)], verify.figures(evidence, figures)


def _trained(run: RunConfig) -> Trained | None:
    """Return what gives the parameters that a run starts from, checked as far as it can be without a model."""
    if run.init_from.path is None:
        return None
    if mistakes := start_mistakes(run):
        raise MistakesError(mistakes)
    source = find_source(run.init_from.path)
    return trained(source.path, adapter=source.adapter)


def _first(scores: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the scores of the only lane."""
    return {key: float(value[0]) for key, value in scores.items()}
