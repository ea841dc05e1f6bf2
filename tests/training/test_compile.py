"""Compiled blocks: they compute what they compute without, and there are few programs.

Most of it runs with PyTorch's `eager` backend, which runs what was traced as it is: tracing is where blocks, lanes and draws could get
mixed up. What the real one makes of it is compared in the slow tests.
"""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters

from pace_tune.errors import ConfigError
from pace_tune.pace.criterion import Classification
from pace_tune.study.run_config import RunConfig
from pace_tune.training.compiling import MOST_SHAPES, Compiler, compiler_of
from pace_tune.training.crew import Crew
from pace_tune.training.judge import Judge
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane, Population
from tests.training.crews import a_run, curve, images, more, small_vit, train

PACE = {"objective.name": "pace", "objective.sigma": 0.5, "objective.lambda": 0.3}


@pytest.fixture(autouse=True)
def _no_programs() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def programs() -> int:
    return counters["stats"]["unique_graphs"]


def lanes_of(count: int, **changes: object) -> list[Lane]:
    """Lanes that differ in all that may differ between steps."""
    return [Lane(f"t{i}", a_run(**{"seed": i, "optim.lr": 2e-3 * (i + 1), **changes}), LaneState({})) for i in range(count)]


def population_of(lanes: list[Lane], *, compiler: Compiler | None = None, dtype: torch.dtype = torch.float64) -> Population:
    data = images(24, seed=1, dtype=dtype)
    model = small_vit(dtype=dtype, depth=4)
    return Population(model, lanes, train=data, criterion=Classification(), metric="accuracy", compiler=compiler)


def losses(count: int, *, backend: str | None, dtype: torch.dtype = torch.float64, **changes: object) -> torch.Tensor:
    """Means over the three steps of each of two epochs, (2, K): the second starts from what the first one learnt."""
    compiler = Compiler(backend=backend) if backend else None
    population = population_of(lanes_of(count, **changes), compiler=compiler, dtype=dtype)
    found = torch.stack([population.run_epoch()["loss"] for _ in range(2)])
    if compiler is not None:
        assert compiler.on
        assert programs()
    return found


def crew_of(compiler: Compiler | None) -> Crew:
    model, judge = small_vit(dtype=torch.float64), Judge(Classification())
    data, val = images(24, seed=1, dtype=torch.float64), images(11, seed=2, dtype=torch.float64)
    return Crew(model, train=data, val=val, judge=judge, compiler=compiler)


def runs_of(**changes: object) -> dict[str, RunConfig]:
    run = a_run(**{**PACE, "measure.every_epochs": 2, "measure.samples": 8, **changes})
    return {f"t{i}": run.with_values({"seed": i, "optim.lr": 3e-3 + i * 1e-3, "objective.sigma": 0.4 + i / 10}) for i in range(2)}


def test_training_validation_and_measures_report_the_same_and_nothing_is_compiled_after_the_first_epoch():
    plain = train(crew_of(None), runs_of(), epochs=3)
    crew = crew_of(Compiler(backend="eager"))
    train(crew, runs_of(), epochs=1)
    after_one = programs()
    rest = more(crew, epochs=2)
    # One program for the quiet first block, one for the last, which computes the class token alone, one for all others.
    assert after_one == programs() == 3
    for name, reports in rest.items():
        assert curve(reports) == pytest.approx(curve(plain[name][1:]), rel=1e-10)


def test_names_in_a_state_dict_stay_what_they_are():
    plain, compiled = population_of(lanes_of(1)), population_of(lanes_of(1), compiler=Compiler(backend="eager"))
    assert list(compiled.adapted.model.state_dict()) == list(plain.adapted.model.state_dict())
    assert compiled.lanes[0].state.values.keys() == plain.lanes[0].state.values.keys()


def test_what_cannot_be_compiled_runs_as_it_is_with_one_warning(caplog):
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no compiler on this machine")

    compiler = Compiler(backend=broken)
    population, plain = population_of(lanes_of(2, **PACE), compiler=compiler), population_of(lanes_of(2, **PACE))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(population.run_epoch()["loss"], plain.run_epoch()["loss"])
    assert not compiler.on
    said = [record.getMessage() for record in caplog.records if record.name.startswith("pace_tune")]
    assert len(said) == 1
    assert "no compiler on this machine" in said[0]


def test_an_error_that_is_not_the_compilers_ends_its_lane_and_leaves_compiling_on(monkeypatch):
    compiler = Compiler(backend="eager")
    population = population_of(lanes_of(1), compiler=compiler)
    monkeypatch.setattr(population, "_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        population.run_epoch()
    assert compiler.on


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"method": {"name": "adaptformer"}}, "stand around whole blocks"),
        ({"method": {"name": "lora", "dropout": 0.1}}, "dropout inside"),
        ({"method": {"name": "glora"}}, "supernet"),
        ({"backbone": {"name": "vit_nano_cifar10", "gradient_checkpointing": True}}, "gradient_checkpointing"),
    ],
)
def test_what_is_not_compiled_says_why_and_trains(changes, why, caplog):
    with caplog.at_level(logging.WARNING):
        run = RunConfig.model_validate(a_run().as_mapping() | changes)
        population = population_of([Lane("t0", run, LaneState({}))], compiler=Compiler(backend="eager"))
    assert why in caplog.text
    population.run_epoch()
    assert programs() == 0


def test_no_more_than_so_many_shapes_are_compiled(caplog):
    compiler, population = Compiler(backend="eager"), population_of(lanes_of(1))
    states = []
    for key in (*range(MOST_SHAPES + 2), 0):
        with compiler.running(population.adapted, key=key):
            states.append(population.adapted.context.compiled)
    assert states == [True] * MOST_SHAPES + [False, False, True]
    assert len(caplog.records) == 1


def test_auto_compiles_on_gpus():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert compiler_of("auto", device=cpu) is None
    assert compiler_of("auto", device=gpu) is not None
    assert compiler_of(False, device=gpu) is None
    assert compiler_of(True, device=cpu) is not None
    with pytest.raises(ConfigError, match=r"resources.compile.*got 'yes'"):
        compiler_of("yes", device=cpu)


@pytest.mark.slow
def test_a_number_of_lanes_is_compiled_once():
    compiler, everyone = Compiler(backend="eager"), lanes_of(4, **PACE)
    population, seen = population_of(everyone[:2], compiler=compiler), []
    for members in ([0, 1], [0, 1, 2, 3], [3], [2], [0, 3], [0, 1, 2, 3], [1, 2]):
        population.set_lanes([everyone[i] for i in members])
        population.run_epoch()
        seen.append(programs())
    # Three programs each: the quiet first block, the last one, all others.
    assert seen == [3, 6, 9, 9, 9, 9, 9]
    # A population that is made anew, as after an error, finds the programs there.
    population_of(lanes_of(2, **PACE), compiler=compiler).run_epoch()
    assert programs() == 9


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("method", ["lora_add", "lora_mul_vpt_add", "rlrr", "adapter_pfeiffer"])
@pytest.mark.parametrize("objective", ["plain", "pace", "pace_detached", "pace_fast"])
def test_losses_are_those_of_eager_blocks(objective, method, count):
    changes = {"method": {"name": method}, "objective.name": objective}
    expected = losses(count, backend=None, **changes)
    torch.testing.assert_close(losses(count, backend="aot_eager", **changes), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("method", "objective", "count"), [("lora_add", "pace", 2), ("lora_mul_vpt_add", "pace_detached", 1)])
def test_losses_of_the_real_backend_are_those_of_eager_blocks(method, objective, count, dtype, rtol):
    changes = {"method.name": method, "objective.name": objective, "dtype": dtype}
    expected = losses(count, backend=None, **changes)
    torch.testing.assert_close(losses(count, backend="inductor", **changes), expected, rtol=rtol, atol=0.0)
