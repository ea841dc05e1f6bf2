"""A trunk in half precision: what trains does not follow it, and what comes out is nearly the same."""

import pytest
import torch

from pace_tune.errors import ConfigError
from pace_tune.training.precision import set_precision
from pace_tune.worker import Worker

TASK, BACKBONE = {"name": "digits", "shots": 4, "val_per_class": 4}, "vit_nano_cifar10"


def trained(folder, *, method, precision):
    """The last report of two epochs, the lane's state and the trunk."""
    run = {
        "task": TASK,
        "backbone": BACKBONE,
        "method": {"name": method},
        "objective": {"name": "pace", "sigma": 0.5, "lambda": 0.1},
        "optim": {"epochs": 2, "batch_size": 20, "lr": 2e-2, "warmup_epochs": 0},
        "measure": {"every_epochs": 2, "samples": 8},
    }
    worker = Worker({"task": TASK, "backbone": BACKBONE, "precision": precision}, storage=folder / precision, threads=1, device="cpu")
    worker.open("t0000", run)
    worker.advance()
    state = worker.crew.lane("t0000").state
    return worker.advance()[0], state, worker.crew.model


# These multiply what trains by the frozen weight itself.
@pytest.mark.parametrize("method", ["lora_add", "lora_mul_vpt_add", "vpt_add", "glora", "rlrr", "vera"])
def test_a_trunk_in_bfloat16_trains_float32_adapters_to_nearly_the_same_loss(method, tmp_path):
    plain, _, _ = trained(tmp_path, method=method, precision="float32")
    half, state, trunk = trained(tmp_path, method=method, precision="bfloat16")
    assert half["state"] == "finished", half["reason"]
    assert {p.dtype for p in trunk.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in (*state.values.values(), *state.exp_avg.values())} == {torch.float32}
    assert half["metrics"]["val/loss"] == pytest.approx(plain["metrics"]["val/loss"], rel=0.01)
    assert half["metrics"]["val/loss"] != plain["metrics"]["val/loss"]


def test_auto_is_float32_on_a_cpu_and_bfloat16_on_a_gpu():
    assert set_precision(torch.nn.Linear(2, 2), "auto", device=torch.device("cpu")) == torch.float32
    assert set_precision(torch.nn.Linear(2, 2), "auto", device=torch.device("cuda")) == torch.bfloat16


def test_what_was_loaded_in_half_precision_stays_as_it_is():
    model = torch.nn.Linear(2, 2).to(torch.float16)
    assert set_precision(model, "float32", device=torch.device("cpu")) == torch.float16
    assert model.weight.dtype == torch.float16


def test_tf32_is_a_rule_for_products_and_not_a_format():
    try:
        assert set_precision(torch.nn.Linear(2, 2), "tf32", device=torch.device("cpu")) == torch.float32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        set_precision(torch.nn.Linear(2, 2), "float32", device=torch.device("cpu"))
    assert torch.get_float32_matmul_precision() == "highest"


def test_another_precision_is_refused():
    with pytest.raises(ConfigError, match=r"resources.precision.*got 'fp8'"):
        set_precision(torch.nn.Linear(2, 2), "fp8", device=torch.device("cpu"))
