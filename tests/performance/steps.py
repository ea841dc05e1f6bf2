"""Single training steps of small populations, and counts of the device operations that they run."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pace_tune.pace.criterion import Classification
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane, Population
from pace_tune.training.streams import stream
from tests.training.crews import a_run, images, small_vit

SYNCHRONISING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero", "aten::lift_fresh"}
"""The last one brings numbers from Python: on a GPU the host waits until they are there, and so for all that goes before."""


class Operations(TorchDispatchMode):
    """Counts operations that do work on the device; views cost nothing there."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        view = any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)
        if not view or func._schema.name == "aten::lift_fresh":
            self.counts[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def a_population(lanes: int, *, objective="pace", method="lora_add", depth=3, dtype=torch.float32, **changes) -> Population:
    runs = [
        a_run(**{"method.name": method, "objective.name": objective, "optim.batch_size": 4, "seed": i, **changes}) for i in range(lanes)
    ]
    members = [Lane(f"t{i}", run, LaneState({})) for i, run in enumerate(runs)]
    model = small_vit(depth=depth, dtype=dtype)
    return Population(model, members, train=images(40, seed=1, dtype=dtype), criterion=Classification(), metric="accuracy")


def take_steps(population: Population, count: int = 1) -> list[dict]:
    """Steps of an epoch, without what comes once an epoch."""
    order_KSB = torch.stack([population._order(lane) for lane in population.lanes])
    noise, augment = ([stream(lane.run.seed, name, 0) for lane in population.lanes] for name in ("noise", "augment"))
    lr_K = torch.full((len(population.lanes),), 1e-3, dtype=torch.float64)
    return [population._step(order_KSB[:, step], lr_K, noise, augment) for step in range(count)]


def operations(population: Population) -> Counter:
    """Operations of one step that is not the first."""
    order_K1B = torch.stack([population._order(lane) for lane in population.lanes])[:, 0]
    noise, augment = ([stream(lane.run.seed, name, 0) for lane in population.lanes] for name in ("noise", "augment"))
    lr_K = torch.full((len(population.lanes),), 1e-3, dtype=torch.float64)
    population._step(order_K1B, lr_K, noise, augment)
    with Operations() as found:
        population._step(order_K1B, lr_K, noise, augment)
    return found.counts
