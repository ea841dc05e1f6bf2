"""A population: lanes that train together on one frozen backbone. One lane is the ordinary case."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import lane_rows
from pace_tune.methods.method import Method
from pace_tune.pace.criterion import Criterion
from pace_tune.pace.draws import Part, micro_batches
from pace_tune.pace.objective import Objective, Step
from pace_tune.training.capture import FEWEST_STEPS, CaptureError, Recording
from pace_tune.training.checkpointing import checkpoint_blocks
from pace_tune.training.compiling import CompiledError, Compiler
from pace_tune.training.data import ResidentData
from pace_tune.training.lane_state import LaneState
from pace_tune.training.optimizer import LaneAdamW, Rates
from pace_tune.training.schedule import learning_rates
from pace_tune.training.scoring import score
from pace_tune.training.streams import restart, stream
from pace_tune.training.team import SOLO, Team
from pace_tune.training.warm_start import Trained, started

if TYPE_CHECKING:
    from pace_tune.study.run_config import RunConfig

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Lane:
    """One run's place in a population. Lanes compare by identity: a run that was given back and opened again is another one.

    Attributes:
        initial_head: The head's start values, by key.
        state: Where it stands; what the bank holds is newer while a population runs.
        trained: Gives the parameters that it starts from; None starts from the method's own.
    """

    name: str
    run: RunConfig
    state: LaneState
    initial_head: dict[str, Tensor] = field(default_factory=dict)
    trained: Trained | None = None

    @property
    def method(self) -> Method:
        """The run's method."""
        return cast(Method, self.run.method)

    @property
    def objective(self) -> Objective:
        """The run's objective."""
        return cast(Objective, self.run.objective)


class Population:
    """Trains lanes of one structure: equal in all but what their method and objective allow to differ.

    Args:
        model: A backbone; changed in place. Several populations share its weights through `share_frozen`.
        train: Split to train on.
        metric: Name of the training score.
        team: Processes that hold the same lanes and each take a part of every batch.
        compiler: Compiles the blocks; None does not.
        capture: Record steps as CUDA graphs where they can be; see `pace_tune.training.capture`.
    """

    def __init__(
        self,
        model: nn.Module,
        lanes: Sequence[Lane],
        *,
        train: ResidentData,
        criterion: Criterion,
        metric: str,
        team: Team = SOLO,
        compiler: Compiler | None = None,
        capture: bool = False,
    ) -> None:
        self.train, self.criterion, self.metric, self.team = train, criterion, metric, team
        first = lanes[0]
        self.adapted = Adapted(model, [first.method], seeds=[0])
        self.adapted.set_drop_path(first.run.optim.drop_path)
        if first.run.backbone.gradient_checkpointing:
            checkpoint_blocks(self.adapted)
        self.compiler = compiler if compiler and compiler.prepare(self.adapted, processes=team.size) else None
        self.adapted.eval()  # a frozen model's own dropout stays off; DropPath and noise come from the step's draw
        self.batch_size = min(first.run.optim.batch_size, len(train))
        self.steps_per_epoch = len(train) // self.batch_size
        self.micro_batches = 1
        self.capture = capture
        self._recording: Recording | None = None
        self._error: Exception | None = None
        self.lanes: list[Lane] = []
        self._epoch_start: list[tuple[Lane, LaneState]] = []
        self.set_lanes(lanes)

    def set_lanes(self, lanes: Sequence[Lane]) -> None:
        """Make these the lanes; those that stay keep their numbers bit for bit."""
        for i, lane in enumerate(self.lanes):
            lane.state = self.read(i)
        self._epoch_start = []  # should a newcomer fail below, the others stand where they are
        self._recording, self._steps_alike = None, 0
        for lane in lanes:
            self._start(lane)
        self.lanes = list(lanes)
        self.adapted.set_lanes([lane.method for lane in lanes], [lane.state.values for lane in lanes])
        self._bind_optimizer()
        like = self.adapted.bank.values_KP
        self.strengths = lanes[0].objective.strengths([lane.objective for lane in lanes], like=like)
        self.plan = lanes[0].objective.plan(self.adapted)
        keys = lanes[0].state.memory
        # Lanes that were here before come from the device, new ones and those read from a file from the CPU.
        self.memory = {key: torch.stack([lane.state.memory[key].to(like) for lane in lanes]) for key in keys}
        # The same objects in every epoch: a recorded step draws from them.
        self._noise, self._augment = ([torch.Generator(device=self.train.targets.device) for _ in lanes] for _ in range(2))

    def read(self, i: int) -> LaneState:
        """Return a copy of the i-th lane's present state."""
        adapted, optimizer = self.adapted, self.optimizer
        return LaneState(
            values=adapted.lane_values(i),
            exp_avg=adapted.lane_values(i, matrix_KP=optimizer.exp_avg_KP),
            exp_avg_sq=adapted.lane_values(i, matrix_KP=optimizer.exp_avg_sq_KP),
            memory={key: value[i].clone() for key, value in self.memory.items()},
            head=self.lanes[i].state.head,
            steps=int(optimizer.count_K[i]),
            epoch=self.lanes[i].state.epoch,
        )

    def run_epoch(self) -> dict[str, Tensor]:
        """Train every lane for one epoch and return its means over the steps, (K,) each.

        What fails in compiled blocks, or in recording, runs again without, from the epoch's start.

        Raises:
            torch.OutOfMemoryError: It does not fit even two samples at a time.
        """
        if not self.lanes[0].method.trains:
            return self._nothing_to_train()
        try:
            return self._compiled_epoch()
        except CaptureError as error:
            self.capture = False
            log.warning("resources.cuda_graphs: steps are launched one by one from now on, because recording them failed: %s", error)
        self._go_back()
        return self._compiled_epoch()

    def _compiled_epoch(self) -> dict[str, Tensor]:
        if self.compiler is None:
            return self._fitting_epoch()
        try:
            with self.compiler.running(self.adapted, key=(structure(self.lanes[0].run), self.micro_batches)):
                return self._fitting_epoch()
        except CompiledError as error:
            self._go_back()
            means = self._fitting_epoch()  # where this fails too, compiling was not the matter
            self.compiler.stop(error)
            return means

    def _fitting_epoch(self) -> dict[str, Tensor]:
        """Run an epoch. Out of memory halves the micro-batch (the effective batch stays) and runs it again from its start."""
        while True:
            self._epoch_start = [(lane, self.read(i)) for i, lane in enumerate(self.lanes)]
            try:
                return self._epoch()
            except torch.OutOfMemoryError:
                most = self.batch_size // 2 // self.team.size
                if self.micro_batches >= most:
                    raise
                self.micro_batches = min(2 * self.micro_batches, most)
            self._go_back()

    def _go_back(self) -> None:
        """Stand where the epoch that was under way began."""
        self.rewind()
        lanes, self.lanes = self.lanes, []
        self.set_lanes(lanes)

    def _nothing_to_train(self) -> dict[str, Tensor]:
        for lane in self.lanes:
            lane.state.epoch = lane.run.optim.epochs
        return {"samples_per_s": self.adapted.bank.values_KP.new_zeros(len(self.lanes))}

    def rewind(self) -> None:
        """Put every lane's state back to the start of the epoch that was under way."""
        for lane, state in self._epoch_start:
            lane.state = state

    def _epoch(self) -> dict[str, Tensor]:
        started = time.perf_counter()
        device = self.train.targets.device
        order_KSB = torch.stack([self._order(lane) for lane in self.lanes]).to(device)
        rates = [learning_rates(lane.run.optim, epoch=lane.state.epoch, steps=self.steps_per_epoch) for lane in self.lanes]
        lr_KS = torch.tensor(rates, dtype=torch.float64, device=device)
        for lane, noise, augment in zip(self.lanes, self._noise, self._augment, strict=True):
            restart(noise, lane.run.seed, "noise", lane.state.epoch)
            restart(augment, lane.run.seed, "augment", lane.state.epoch)
        sums: dict[str, Tensor] = {}
        self._error = None
        for step in range(self.steps_per_epoch):
            for key, value in self._take_step(order_KSB[:, step], lr_KS[:, step]).items():
                sums[key] = sums[key] + value if key in sums else value.clone()  # a recording writes the next step's in its place
        self.team.agree(self._error)
        self.team.add(*(sums[key] for key in sorted(sums)))
        for lane in self.lanes:
            lane.state.epoch += 1
        means = {key: value / self.steps_per_epoch for key, value in sums.items()}
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # else the clock is read while the device still works
        samples = self.steps_per_epoch * self.batch_size * len(self.lanes)
        means["samples_per_s"] = torch.full_like(means["loss"], samples / (time.perf_counter() - started))
        return means

    def _take_step(self, index_KB: Tensor, lr_K: Tensor) -> dict[str, Tensor]:
        """Take a step: the first with these lanes as it is; where steps can be recorded, the second and all others as a recording."""
        if self._recording is None and self._steps_alike and self._records():
            generators = (*self._noise, *self._augment)
            step = partial(self._step, noise=self._noise, augment=self._augment)
            self._recording = Recording(step, index_KB, lr_K, generators=generators)
        self._steps_alike += 1
        if self._recording is not None:
            return self._recording(index_KB, lr_K)
        return self._step(index_KB, lr_K, self._noise, self._augment)

    def _records(self) -> bool:
        again = self.lanes[0].run.backbone.gradient_checkpointing  # it saves and restores generators, which a graph holds
        alone = self.team.size == 1 and self.micro_batches == 1
        steady = self.train.steady and self.lanes[0].objective.steady and not again
        return self.capture and alone and steady and self.steps_per_epoch >= FEWEST_STEPS

    def _step(self, index_KB: Tensor, lr_K: Tensor, noise: list[torch.Generator], augment: list[torch.Generator]) -> dict[str, Tensor]:
        self.adapted.bank.zero_grad()
        sums: dict[str, Tensor] = {}
        with self.team.sharing(self.memory):
            if self.team.lockstep:
                with self.team.together():
                    sums = self._gradients(self._batch(index_KB, noise, augment), noise)
            else:
                sums = self._gradients_or_error(index_KB, noise, augment)
        self.team.add(self.adapted.bank.grads_KP)
        self.optimizer.step(lr_K)
        return sums

    def _gradients_or_error(self, index_KB: Tensor, noise: list[torch.Generator], augment: list[torch.Generator]) -> dict[str, Tensor]:
        """Keep a team's errors for the epoch's end, where all stop together: the others wait for this process at every step."""
        try:
            return {} if self._error else self._gradients(self._batch(index_KB, noise, augment), noise)
        except Exception as error:
            if self.team.size == 1 or isinstance(error, torch.AcceleratorError):
                raise
            self._error = error
            return {}

    def _gradients(self, whole: Step, noise: list[torch.Generator]) -> dict[str, Tensor]:
        """Add up this process's gradients of a batch in the bank and return its share of the losses."""
        parts = self.micro_batches * self.team.size
        if parts == 1:
            return self._backward(whole, share=1.0)
        sums: dict[str, Tensor] = {}
        states = [g.get_state() for g in noise]
        for part in self.team.own(micro_batches(self.batch_size, parts)):
            for g, state in zip(noise, states, strict=True):
                g.set_state(state)  # each part draws for the whole batch and takes its own
            found = self._backward(_part_of(whole, part), share=len(part.rows_b) / self.batch_size)
            sums = {key: sums[key] + value if key in sums else value for key, value in found.items()}
        return sums

    def _batch(self, index_KB: Tensor, noise: list[torch.Generator], augment: list[torch.Generator]) -> Step:
        return Step(
            self.adapted,
            self.train.batch(index_KB, augment=self.lanes[0].run.data.augment, generators=augment),
            self.train.targets[index_KB],
            self.strengths,
            noise,
            plan=self.plan,
            criterion=self.criterion,
            index_KB=index_KB,
            count_K=self.optimizer.count_K,
            memory=self.memory,
        )

    def _backward(self, batch: Step, *, share: float) -> dict[str, Tensor]:
        terms = self.lanes[0].objective.terms(batch)
        # A lane's loss depends on its own parameters only, so the sum gives each lane its own gradient.
        (terms.total.sum() * share).backward()
        scored = score(self.metric, terms.logits, batch.targets_KB[:, : terms.logits.shape[1]])
        found = {"loss": terms.total.detach(), "task_loss": terms.task_loss, "consistency": terms.consistency, self.metric: scored}
        return {key: value * share for key, value in found.items()}

    def _order(self, lane: Lane) -> Tensor:
        """Return the epoch's sample numbers, (steps, batch); what does not fill a batch is left out, as published."""
        order = torch.randperm(len(self.train), generator=stream(lane.run.seed, "order", lane.state.epoch))
        return order[: self.steps_per_epoch * self.batch_size].view(self.steps_per_epoch, self.batch_size)

    def _start(self, lane: Lane) -> None:
        fresh = self.adapted.fresh_lane(lane.method, stream(lane.run.seed, "init"))
        if lane.trained is not None and not lane.state.values:
            fresh = started(fresh, lane.trained(self.adapted, lane.method), self.adapted, head=lane.run.init_from.head)
            lane.state.head = {key: value for key, value in fresh.items() if self.adapted.is_head(key)}
        lane.initial_head = {key: lane.state.head.get(key, value) for key, value in fresh.items() if self.adapted.is_head(key)}
        # In the model's order: a file has its own, and the order of a bank's columns is that of sums over a lane.
        lane.state.values = {key: lane.state.values.get(key, value) for key, value in fresh.items()} if lane.state.values else fresh
        if not lane.state.memory:
            classes = self.adapted.layout.head.linear.out_features if self.adapted.layout.head else 0
            lane.state.memory = lane.objective.memory(samples=len(self.train), classes=classes, sites=len(self.adapted.sites))

    def _bind_optimizer(self) -> None:
        optims = [lane.run.optim for lane in self.lanes]

        def column(values: list[float]) -> Tensor:
            return self.adapted.bank.values_KP.new_tensor(values)[:, None]

        rates = Rates(
            weight_decay_K1=column([o.weight_decay for o in optims]),
            beta1_K1=column([o.betas[0] for o in optims]),
            beta2_K1=column([o.betas[1] for o in optims]),
            clip_K1=column([float("inf") if o.clip_grad_norm is None else o.clip_grad_norm for o in optims]),
        )
        self.optimizer = LaneAdamW(self.adapted.bank, rates)
        for i, lane in enumerate(self.lanes):
            self.optimizer.count_K[i] = lane.state.steps
            if lane.state.exp_avg:
                self.adapted.bank.write(i, lane.state.exp_avg, matrix_KP=self.optimizer.exp_avg_KP)
                self.adapted.bank.write(i, lane.state.exp_avg_sq, matrix_KP=self.optimizer.exp_avg_sq_KP)


def _part_of(step: Step, part: Part) -> Step:
    lanes = len(step.targets_KB)
    inputs = {key: lane_rows(value, lanes)[:, part.rows_b].flatten(0, 1) for key, value in step.inputs.items()}
    index_KB = None if step.index_KB is None else step.index_KB[:, part.rows_b]
    return replace(step, inputs=inputs, targets_KB=step.targets_KB[:, part.rows_b], index_KB=index_KB, part=part)


def structure(run: RunConfig) -> str:
    """Return what lanes of one population have in common, as a key."""
    mapping = run.as_mapping()
    for section, kind in (("method", cast(Method, run.method)), ("objective", cast(Objective, run.objective))):
        for name in kind.lane_fields:
            mapping[section].pop(name.rstrip("_"), None)
    shared_optim = {key: mapping["optim"][key] for key in ("batch_size", "drop_path")}
    return repr((mapping["method"], mapping["objective"], shared_optim, mapping["data"], mapping["measure"]))
