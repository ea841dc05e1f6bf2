import random

import pytest

from pace_tune.results.best import best_of_group, comparable
from pace_tune.results.neighbours import examples_behind, neighbours
from tests.results.planned_sweeps import Planned


def seeded(draw, rank, mean, seeds):
    return [Planned(value=round(mean + draw.gauss(0, 0.002) + 0.01 * seed, 4), rank=rank, seed=seed) for seed in seeds]


def test_recipes_with_seeds_in_common_are_told_apart_over_them(sweep_in):
    draw = random.Random(0)
    planned = [*seeded(draw, 8, 0.9, range(4)), *seeded(draw, 4, 0.85, range(4)), *seeded(draw, 2, 0.899, range(4))]
    (group,) = comparable(sweep_in(*planned).parent)
    winner = best_of_group(group)
    found = {one.differs["method.rank"][1]: one for one in neighbours(group)}
    assert winner.config["method"]["rank"] == 8
    assert set(found) == {2, 4}, "a recipe is there once, whatever its seeds"
    assert found[4].verdict == "worse"
    assert found[4].basis.startswith("paired over 4 seeds: -0.0")
    assert found[2].verdict == "cannot tell"


def test_one_seed_each_is_judged_by_the_number_of_validation_examples(sweep_in):
    values = [k / 200 for k in (180, 178, 120, 101, 133, 151, 167, 143, 109)]
    (group,) = comparable(sweep_in(*(Planned(value=value, epochs=1, rank=2 + i) for i, value in enumerate(values)), epochs=1).parent)
    second, *_, last = neighbours(group, count=8)
    assert (second.verdict, last.verdict) == ("cannot tell", "worse")
    assert "200 validation examples" in second.basis
    assert second.behind == pytest.approx(0.01)


def test_what_is_unknown_is_never_told_apart(sweep_in):
    (group,) = comparable(sweep_in(Planned(value=0.912345), Planned(value=0.1234567, rank=9)).parent)
    (only,) = neighbours(group)
    assert (only.verdict, only.basis) == ("cannot tell", "one seed each")
    assert dict(only.differs) == {"method.rank": (4, 9)}


def test_a_rival_of_another_objective_differs_by_what_was_searched_and_not_by_its_defaults(sweep_in):
    (group,) = comparable(sweep_in(Planned(value=0.9, objective="plain"), Planned(value=0.8)).parent)
    (only,) = neighbours(group)
    assert dict(only.differs) == {
        "objective.name": ("plain", "pace"),
        "objective.sigma": (None, 1.25),
        "objective.lambda": (None, 0.5),
    }


def test_neighbours_come_from_all_studies_of_a_task(sweep_in):
    output = sweep_in(Planned(value=0.8), name="one").parent
    sweep_in(Planned(value=0.9, rank=8), name="two")
    (group,) = comparable(output, "one", "two")
    assert best_of_group(group).sweep == "two"
    assert [one.sweep for one in neighbours(group)] == ["one"]


def test_the_number_of_examples_is_read_off_single_precision_shares():
    import numpy as np

    draw = random.Random(1)
    for count in (200, 1043, 5463):
        shares = [float(np.float32(draw.randrange(count) / count)) for _ in range(40)]
        assert examples_behind(shares) == count
    assert examples_behind([0.5, 0.25]) is None
    assert examples_behind([draw.random() for _ in range(40)]) is None
