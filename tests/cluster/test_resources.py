import pytest

from pace_tune.cluster.resources import Request, gpus_per_worker, refuse_infeasible, slots
from pace_tune.errors import ConfigError

EIGHT_GPUS = [{"CPU": 64.0, "GPU": 8.0}]


@pytest.mark.parametrize(
    ("bundles", "fit"),
    [
        ([{"CPU": 4, "GPU": 1}], 8),
        ([{"CPU": 1, "GPU": 0.15}], 48),
        ([{"CPU": 16, "GPU": 1}], 4),
        ([{"GPU": 16}], 0),
        ([{"CPU": 4, "GPU": 1}] * 2, 4),
    ],
)
def test_how_often_bundles_fit(bundles, fit):
    assert slots(EIGHT_GPUS, bundles) == fit


def test_a_bundle_never_spans_two_nodes():
    assert slots([{"CPU": 3.0}, {"CPU": 3.0}], [{"CPU": 2}]) == 2


def test_one_gpu_for_each_worker_where_there_are_enough():
    assert gpus_per_worker("auto", workers=8, nodes=EIGHT_GPUS) == 1
    assert gpus_per_worker("auto", workers=9, nodes=EIGHT_GPUS) == 0
    assert gpus_per_worker(0.5, workers=9, nodes=[]) == 0.5


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (Request(workers=3), "resources.workers: 3 workers of 1 CPU cannot be placed: there is room for 2 on 2 CPUs."),
        (Request(gpus_per_worker=1), "resources.workers: 1 worker of 1 CPU and 1 GPU cannot be placed: there is room for 0 on 2 CPUs."),
    ],
)
def test_what_can_never_be_placed_is_refused_in_a_sentence(request_, line):
    with pytest.raises(ConfigError) as caught:
        refuse_infeasible(request_, nodes=[{"CPU": 2}])
    assert str(caught.value) == line


def test_a_worker_of_several_processes_takes_a_place_for_each():
    request = Request(workers=4, processes=2, gpus_per_worker=2.0, cpus_per_worker=4.0)
    assert request.bundle() == {"CPU": 4.0, "GPU": 1.0}
    refuse_infeasible(request, nodes=EIGHT_GPUS)
    with pytest.raises(ConfigError, match="5 workers of 2 processes of 4 CPUs and 1 GPU cannot be placed: there is room for 8 on"):
        refuse_infeasible(Request(workers=5, processes=2, gpus_per_worker=2.0, cpus_per_worker=4.0), nodes=EIGHT_GPUS)


def test_workers_may_take_all_there_is_for_trials_take_nothing():
    refuse_infeasible(Request(workers=2, lanes=100), nodes=[{"CPU": 2}])
