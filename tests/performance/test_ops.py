"""What a step asks of the device, counted: time cannot be asserted on a busy machine, operations can."""

import pytest
import torch

from tests.performance.steps import SYNCHRONISING, a_population, operations

METHODS = ("lora_add", "lora_mul_vpt_add")
OBJECTIVES = ("pace", "pace_detached", "pace_fast")
# Of each lane's own generator: noise and DropPath masks.
DRAWS = {"aten::randn": 1, "aten::rand": 1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_lane_more_costs_its_draws_and_no_other_operation(method, objective):
    one, eight = (operations(a_population(lanes, method=method, objective=objective)) for lanes in (1, 8))
    more = {name: eight[name] - one[name] for name in eight | one if eight[name] != one[name]}
    assert {name: more.pop(name) for name in DRAWS} == {name: 7 * count for name, count in DRAWS.items()}
    # Copies that one lane does without: views of one row's memory are whole.
    assert sum(more.values()) <= 4


@pytest.mark.parametrize("method", METHODS)
def test_operations_of_a_deep_model_grow_by_two_percent_at_most(method):
    one, eight = (operations(a_population(lanes, method=method, depth=12)).total() for lanes in (1, 8))
    assert eight <= 1.02 * one
    assert one <= {"lora_add": 1250, "lora_mul_vpt_add": 1550}[method]


@pytest.mark.parametrize("objective", [*OBJECTIVES, "pace_lazy", "fpa", "plain"])
def test_a_step_never_waits_for_the_device(objective):
    found = operations(a_population(2, objective=objective))
    assert not SYNCHRONISING & set(found)


def test_lanes_are_few_operations_of_the_optimizer():
    from pace_tune.training.optimizer import LaneAdamW
    from tests.performance.steps import Operations, take_steps

    counts = []
    for lanes in (1, 8):
        population = a_population(lanes, optim__clip_grad_norm=1.0)
        take_steps(population)
        assert isinstance(population.optimizer, LaneAdamW)
        with Operations() as found:
            population.optimizer.step(torch.full((lanes,), 1e-3, dtype=torch.float64))
        counts.append(found.counts.total())
    assert counts[0] == counts[1] <= 40
