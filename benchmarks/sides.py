"""Both sides of the step benchmarks: our population, and the published modules in their training loop's form."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Self
from unittest import mock

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pace_tune.methods import products
from pace_tune.models.backbone import InputSpec
from pace_tune.pace.criterion import Classification
from pace_tune.pace.draws import draw_step
from pace_tune.pace.levels import sigma_levels
from pace_tune.study.run_config import RunConfig
from pace_tune.training.compiling import Compiler
from pace_tune.training.data import ResidentData
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane, Population
from pace_tune.training.streams import stream

Side = Callable[[], object]
"""A step, or one step of each of several runs."""

CLASSES, SAMPLES, DEPTH, SIZE = 100, 256, 12, 32
RANK = {"lora_add": 4, "lora_mul_vpt_add": 10}
SIGMA, LAMBDA, LR, WEIGHT_DECAY = 1.0, 0.5, 1e-3, 1e-4
ADAPTERS = {"lora_add": "LoRAadd", "lora_mul_vpt_add": "LoRAmul_VPTadd"}
KEYS = {"delta_W_down": "down", "delta_W_up": "up", "delta_b": "bias", "delta_prompt_down": "prompt_down", "delta_prompt_up": "prompt_up"}
KEYS |= {"base_module.weight": "weight", "base_module.bias": "bias"}


@dataclass(frozen=True)
class Case(ABC):
    """A model and a batch."""

    batch: int
    method: str
    device: str

    @property
    @abstractmethod
    def label(self) -> str:
        """The model and the batch in words."""

    @abstractmethod
    def model(self) -> nn.Module:
        """Return the model on the device, with weights that are the same at every call."""

    @abstractmethod
    def data(self) -> ResidentData:
        """Return random samples in device memory."""

    def with_method(self, method: str) -> Self:
        """Return the same with another method."""
        return replace(self, method=method)

    def run(self, objective: str, *, seed: int = 0) -> RunConfig:
        """Return the run of one lane."""
        method = {"name": self.method, "rank": RANK[self.method]}
        # What the released code trains: a prompt of two factors.
        method |= {"prompt": "factorised"} if self.method == "lora_mul_vpt_add" else {}
        optim = {"lr": LR, "weight_decay": WEIGHT_DECAY, "batch_size": self.batch, "drop_path": 0.1}
        mapping = {"task": "digits", "backbone": "vit_nano_cifar10", "method": method, "optim": optim, "seed": seed}
        return RunConfig.model_validate(mapping | {"objective": {"name": objective, "sigma": SIGMA, "lambda": LAMBDA}})

    def population(
        self, objective: str, *, lanes: int, first: int = 0, compiler: Compiler | None = None, capture: bool = False
    ) -> Population:
        """Return lanes that differ in their seeds."""
        members = [Lane(f"t{i}", self.run(objective, seed=i), LaneState({})) for i in range(first, first + lanes)]
        how = {"compiler": compiler, "capture": capture}
        return Population(self.model(), members, train=self.data(), criterion=Classification(), metric="accuracy", **how)


@dataclass(frozen=True)
class SmallVit(Case):
    """A ViT of twelve blocks on small images."""

    width: int
    patch: int

    @property
    def label(self) -> str:
        """The model and the batch in words."""
        tokens = (SIZE // self.patch) ** 2 + 1
        return f"ViT of width {self.width}, {tokens} tokens, batch {self.batch}, {self.method}, {self.device}"

    def model(self) -> VisionTransformer:
        """Return a ViT whose weights are large enough for adapters to matter."""
        torch.manual_seed(0)
        sizes = {"img_size": SIZE, "patch_size": self.patch, "embed_dim": self.width, "depth": DEPTH, "num_heads": 3}
        model = VisionTransformer(**sizes, num_classes=CLASSES, drop_path_rate=0.1)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.weight.mul_(3)
        return model.to(self.device)

    def data(self) -> ResidentData:
        """Return random images in device memory."""
        return random_images(SIZE, device=self.device)


def random_images(size: int, *, device: str, dtype: torch.dtype = torch.float32) -> ResidentData:
    """Return random images of random classes in device memory."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randint(256, (SAMPLES, 3, size, size), generator=rng, dtype=torch.uint8)
    y = torch.randint(CLASSES, (SAMPLES,), generator=rng)
    return ResidentData({"x": x.to(device)}, y.to(device), InputSpec.image(size, normalisation="half"), dtype)


def ours(case: Case, objective: str, *, lanes: int) -> Side:
    """Return a step of a population."""
    return _stepper(case.population(objective, lanes=lanes), device=case.device)


def compiled_side(case: Case, objective: str, *, lanes: int, capture: bool = False) -> Side:
    """Return a step of a population with compiled blocks; its first one compiles. `capture` replays it as a CUDA graph."""
    compiler = Compiler()
    population = case.population(objective, lanes=lanes, compiler=compiler, capture=capture)
    step = _stepper(population, device=case.device)

    def compiled() -> None:
        with compiler.running(population.adapted, key=case.label):
            step()

    return compiled


def by_mkl_side(case: Case, objective: str, *, lanes: int) -> Side:
    """Return a step of a population whose products with frozen weights are PyTorch's own choice, see `pace_tune.methods.products`."""
    step = ours(case, objective, lanes=lanes)

    def by_mkl() -> None:
        with mock.patch.object(products, "FEWEST_ROWS", sys.maxsize):
            step()

    return by_mkl


def captured_side(case: Case, objective: str, *, lanes: int) -> Side:
    """Return a step that is replayed as a CUDA graph; the second one records it."""
    return _stepper(case.population(objective, lanes=lanes, capture=True), device=case.device)


def sequential_side(case: Case, objective: str, *, lanes: int) -> Side:
    """Return one step of each of as many populations of one lane."""
    steppers = [_stepper(case.population(objective, lanes=1, first=i), device=case.device) for i in range(lanes)]
    return lambda: [step() for step in steppers]


def _stepper(population: Population, *, device: str) -> Side:
    order_KSB = torch.stack([population._order(lane) for lane in population.lanes]).to(device)
    lr_K = torch.full((len(population.lanes),), LR, dtype=torch.float64, device=device)
    count = iter(range(10**9))
    return lambda: population._take_step(order_KSB[:, next(count) % population.steps_per_epoch], lr_K)


@cache
def published_code(checkout: Path) -> ModuleType:
    """Import the published modules from a checkout."""
    sys.path.insert(0, str(checkout / "Vision"))
    import pace

    return pace


def published_model(case: Case, checkout: Path) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Return the published modules in the case's model, as the published training script puts them in, and what trains."""
    pace = published_code(checkout)
    model = case.model()
    pace.inject_residual_adapter(model, adapter=ADAPTERS[case.method], rank=RANK[case.method])
    pace.ensure_sharable_drop_path(model)
    sigmas = [SIGMA * factor for factor in sigma_levels(DEPTH, quiet_blocks=1)]
    for parent, name, level in pace.get_adapters_and_block_ids(model):
        setattr(parent, name, pace.MultiplicativeNoiseAdapter(getattr(parent, name), sigma=sigmas[level]))
    trainable = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "delta" in name or "head" in name
        if parameter.requires_grad:
            site, _, rest = name.partition(".adapter.")
            trainable[f"{site}/{KEYS[rest]}"] = parameter
    return model.train().to(case.device), trainable


def published_side(case: Case, checkout: Path) -> Side:
    """Return a step of the published `pace` with its optimizer; without its logging, which only adds to it."""
    pace = published_code(checkout)
    model, trainable = published_model(case, checkout)
    optimizer = torch.optim.AdamW(trainable.values(), lr=LR, weight_decay=WEIGHT_DECAY)
    criterion, data = nn.CrossEntropyLoss(), case.data()
    starts = iter(range(10**9))

    def step() -> None:
        start = next(starts) * case.batch % (SAMPLES - case.batch + 1)
        rows = slice(start, start + case.batch)
        found = pace.compute_loss_pace(model, data.shared_batch(rows, lanes=1)["x"], data.targets[rows], criterion, lbd_pace=LAMBDA)
        optimizer.zero_grad()
        found["total_loss"].backward()
        optimizer.step()

    return step


def published_agrees(case: Case, checkout: Path) -> None:
    """Check that both sides have the same loss and gradients, given the same parameters and noise and no DropPath."""
    pace = published_code(checkout)
    model, trainable = published_model(case, checkout)
    population = case.population("pace", lanes=1)
    adapted, bank = population.adapted, population.adapted.bank
    adapted.set_drop_path(0.0)
    for module in model.modules():
        if isinstance(module, pace.sharable_dropout.SharableDropPath):
            module.drop_prob = 0.0
    with torch.no_grad():
        for key, parameter in trainable.items():
            mine = bank.parameters[key][0]
            parameter.copy_(mine.copy_(torch.empty_like(mine).uniform_(-0.05, 0.05)))
    index_KB = torch.arange(case.batch, device=case.device)[None]
    batch = population._batch(index_KB, [stream(0, "noise", device=case.device)], [])
    draw = draw_step(adapted, generators=[stream(0, "noise", device=case.device)], samples=case.batch, views=2, plan=population.plan,
                     sigma_K=population.strengths["sigma"])  # fmt: skip
    bank.zero_grad()
    terms = population.lanes[0].objective.terms(batch)
    terms.total.sum().backward()
    with _given_noise(model, pace, draw.noise):
        theirs = pace.compute_loss_pace(model, batch.inputs["x"], batch.targets_KB[0], nn.CrossEntropyLoss(), lbd_pace=LAMBDA)
    theirs["total_loss"].backward()
    torch.testing.assert_close(terms.total[0], theirs["total_loss"], rtol=1e-4, atol=1e-5)
    mine = torch.cat([bank.parameters[key].grad[0].flatten() for key in trainable])
    other = torch.cat([parameter.grad.flatten() for parameter in trainable.values()])
    assert (mine - other).norm() <= 1e-3 * other.norm(), "gradients differ"


@contextmanager
def _given_noise(model: nn.Module, pace: ModuleType, noise: dict[str, Tensor]) -> Iterator[None]:
    """Let the published sites draw the noise that ours were given."""
    running: list[str] = []
    sites = {name: module for name, module in model.named_modules() if isinstance(module, pace.MultiplicativeNoiseAdapter)}
    hooks = [module.register_forward_pre_hook(lambda *_, name=name: running.append(name)) for name, module in sites.items()]

    def randn(*shape: int, **_: object) -> Tensor:
        name = running[-1]
        return ((noise[name][0] - 1) / sites[name].sigma).reshape(shape)

    with mock.patch("torch.randn", randn):
        yield
    for hook in hooks:
        hook.remove()
