"""What only a GPU can show: kernels, recorded and compiled steps, lanes in half precision. Run with `pytest -m gpu tests/gpu`."""

import logging

import pytest
import torch
from torch import nn

from pace_tune.methods import fused
from pace_tune.pace.criterion import Classification
from pace_tune.registry import objectives
from pace_tune.training.compiling import Compiler
from pace_tune.training.data import ResidentData
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane, Population
from pace_tune.worker import Worker
from tests.training.crews import a_run, images, small_vit

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]

HALF = torch.bfloat16
CUDA = torch.device("cuda")


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def on_gpu(count: int, *, dtype: torch.dtype) -> ResidentData:
    here = images(count, seed=1, dtype=dtype)
    return ResidentData({"x": here.inputs["x"].to(CUDA)}, here.targets.to(CUDA), here.spec, dtype)


def population_of(lanes: int, *, dtype=torch.float32, capture=False, compiler=None, first=0, **changes) -> Population:
    runs = [a_run(**{"seed": i, "optim.batch_size": 4, "optim.lr": 2e-3, **changes}) for i in range(first, first + lanes)]
    members = [Lane(f"t{i}", run, LaneState({})) for i, run in enumerate(runs)]
    how = {"compiler": compiler, "capture": capture}
    model = small_vit(dtype=dtype, depth=3, width=64).to(CUDA)
    return Population(model, members, train=on_gpu(40, dtype=dtype), criterion=Classification(), metric="accuracy", **how)


def learnt(population: Population, epochs: int = 2) -> torch.Tensor:
    return torch.stack([population.run_epoch()["loss"] for _ in range(epochs)]).cpu()


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("lanes", "rows", "tokens", "width_in", "width_out", "rank"), [
    (1, 128, 197, 64, 96, 4), (8, 4, 197, 192, 576, 16), (3, 2, 17, 40, 72, 7), (2, 120, 10, 64, 200, 31), (1, 3, 600, 64, 64, 4),
])  # fmt: skip
def test_the_kernels_compute_the_plain_form_and_its_gradients(lanes, rows, tokens, width_in, width_out, rank, bias, noisy):
    torch.manual_seed(rank)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=CUDA, dtype=HALF)

    weight, b0 = numbers(width_out, width_in), numbers(width_out)
    x, up, down = numbers(lanes, rows * tokens, width_in), numbers(lanes, rank, width_in), numbers(lanes, width_out, rank)
    shift = numbers(lanes, width_out) if bias else None
    z = 1 + numbers(lanes, rows, width_out) if noisy else None
    grad = numbers(lanes, rows * tokens, width_out)
    inputs = [tensor.requires_grad_() for tensor in (x, up, down, *([shift] if bias else []))]
    found = fused.low_rank(x, weight, b0, up_KrI=up, down_KOr=down, shift_KO=shift, z_KRO=z)
    grads = torch.autograd.grad(found, inputs, grad)

    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    delta = exact[0] @ exact[1].mT @ exact[2].mT + (exact[3][:, None] if bias else 0)
    noise = 1 if z is None else z.double()[:, :, None]
    plain = nn.functional.linear(exact[0], weight.double(), b0.double()) + (noise * delta.view(lanes, rows, tokens, -1)).reshape(
        delta.shape
    )
    expected = torch.autograd.grad(plain, exact, grad.double())
    assert apart(found, plain) < 1e-2
    for mine, theirs in zip(grads, expected, strict=True):
        assert apart(mine, theirs) < 1e-2


@pytest.mark.parametrize("objective", sorted(objectives.names()))
def test_recorded_steps_learn_what_steps_launched_one_by_one_do(objective):
    changes = {"objective.name": objective}
    one_by_one, recorded = population_of(2, **changes), population_of(2, capture=True, **changes)
    expected, found = learnt(one_by_one), learnt(recorded)
    assert recorded.capture, "recording failed"
    assert (recorded._recording is not None) == objectives.get(objective).steady
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for key, value in one_by_one.read(0).values.items():
        torch.testing.assert_close(recorded.read(0).values[key], value, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("method", ["lora_add", "lora_mul_vpt_add", "lora", "adaptformer", "ssf", "bitfit", "vpt_deep", "peft:lora"])
def test_methods_record(method):
    changes = {"method.name": method, "objective.name": "pace", "data.augment": "crop_flip"}
    one_by_one, recorded = population_of(1, **changes), population_of(1, capture=True, **changes)
    torch.testing.assert_close(learnt(recorded), learnt(one_by_one), rtol=1e-4, atol=1e-5)
    assert recorded._recording is not None


def test_a_step_that_waits_for_the_device_runs_unrecorded_and_the_same(monkeypatch, caplog):
    population, plain = population_of(1, capture=True), population_of(1)
    batch = Population._batch

    def waiting(self, *args, **kwargs):
        step = batch(self, *args, **kwargs)
        step.targets_KB.sum().item()
        return step

    expected = learnt(plain)
    monkeypatch.setattr(Population, "_batch", waiting)
    with caplog.at_level(logging.WARNING):
        found = learnt(population)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not population.capture
    assert "launched one by one" in caplog.text


def test_lanes_that_come_and_go_are_recorded_anew():
    recorded, plain = population_of(3, capture=True), population_of(3)
    for population in (recorded, plain):
        population.run_epoch()
        population.set_lanes(population.lanes[:1])
    torch.testing.assert_close(learnt(recorded), learnt(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("capture", [False, True])
def test_compiled_blocks_learn_what_they_do_as_they_are(dtype, capture):
    changes = {"objective.name": "pace", "dtype": dtype}
    compiler = Compiler()
    found, expected = learnt(population_of(2, capture=capture, compiler=compiler, **changes)), learnt(population_of(2, **changes))
    assert compiler.on
    torch.testing.assert_close(found, expected, rtol=1e-4 if dtype == torch.float32 else 5e-2, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_lanes_learn_what_each_does_alone(dtype):
    changes = {"objective.name": "pace", "dtype": dtype, "capture": True}
    together = learnt(population_of(4, **changes))
    alone = torch.cat([learnt(population_of(1, first=i, **changes)) for i in range(4)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-3 if dtype == torch.float32 else 5e-2, atol=1e-4)


def test_a_lane_that_diverges_leaves_its_neighbours_alone():
    def losses(rate: float) -> torch.Tensor:
        population = population_of(3, capture=True, dtype=HALF, **{"objective.name": "pace"})
        lane = population.lanes[1]
        lane.run = lane.run.with_values({"optim.lr": rate})
        return learnt(population, epochs=3)

    wild, calm = losses(1e30), losses(2e-3)
    assert not torch.isfinite(wild[-1, 1])
    assert torch.equal(wild[:, [0, 2]], calm[:, [0, 2]])


SETUP = {"task": {"name": "digits", "shots": 8, "val_per_class": 8}, "backbone": "vit_nano_cifar10", "data": {}}


def worked(folder, device: str, objective: object, **setup) -> list[dict]:
    worker = Worker({**SETUP, **setup}, storage=folder, threads=1, device=device)
    optim = {"epochs": 8, "batch_size": 8, "lr": 5e-3, "warmup_epochs": 1, "drop_path": 0.0}
    run = {**SETUP, "method": {"name": "lora_add", "rank": 4}, "objective": objective, "optim": optim}
    for seed in range(2):
        worker.open(f"t{seed}", {**run, "seed": seed, "measure": {"every_epochs": 4, "samples": 8}})
    reports = []
    while found := worker.advance():
        reports += found
    return reports


def test_a_worker_trains_validates_and_measures_as_it_does_on_a_cpu(tmp_path):
    there = worked(tmp_path / "gpu", "cuda", "plain", precision="float32", compile=False)
    here = worked(tmp_path / "cpu", "cpu", "plain")
    assert [(r["lane"], r["epoch"], r["state"]) for r in there] == [(r["lane"], r["epoch"], r["state"]) for r in here]
    for mine, theirs in zip(there, here, strict=True):
        assert set(mine["metrics"]) == {*theirs["metrics"], "speed/gpu_memory_gib"}
        for name in ("train/loss", "val/loss"):
            assert mine["metrics"][name] == pytest.approx(theirs["metrics"][name], rel=2e-2)


def test_a_worker_with_its_defaults_learns(tmp_path):
    reports = worked(tmp_path, "cuda", {"name": "pace", "sigma": 0.5, "lambda": 0.1})
    assert {r["state"] for r in reports} == {"running", "finished"}
    last = [r["metrics"]["val/accuracy"] for r in reports if r["state"] == "finished"]
    assert min(last) > 0.6, last
