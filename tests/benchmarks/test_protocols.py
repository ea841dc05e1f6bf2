"""Published protocols make valid runs, name what they leave open, and say what the tables say."""

import pytest

from pace_tune.benchmarks.protocols import FEWSHOT, FGVC, GLUE, VTAB, notes, protocol
from pace_tune.registry import tasks
from pace_tune.study.paths import nest
from pace_tune.study.run_config import RunConfig

PUBLISHED = [
    *(f"vtab/{name}" for name in VTAB),
    *(f"fewshot/{name}" for name in FEWSHOT),
    *(f"fgvc/{name}" for name in FGVC),
    *(f"glue/{name}" for name in GLUE),
    "domain/imagenet",
    "gsm8k",
]


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_protocol_is_a_run_that_selects_on_val(task):
    run = RunConfig.model_validate(nest({"task.name": task, **protocol(task)}))
    assert run.data.selection == "val"
    assert run.data.train_on == "train"
    assert tasks.get(task).published() == protocol(task)
    assert notes(task)
    assert all(note.endswith(".") for note in notes(task))


def test_every_task_of_a_published_family_has_one():
    families = ("vtab/", "fewshot/", "fgvc/")
    assert {name for name in tasks.names() if name.startswith(families)} <= set(PUBLISHED)


def test_figures_of_the_tables():
    assert [protocol("vtab/cifar")[key] for key in ("method.rank", "optim.lr", "optim.weight_decay", "optim.epochs")] == [
        10,
        1e-3,
        1e-4,
        300,
    ]
    assert protocol("vtab/diabetic_retinopathy")["method.name"] == "lora_add"
    assert protocol("fgvc/cars")["optim.lr"] == 2e-4
    assert protocol("fewshot/pets")["data.augment"] == "crop_flip"
    assert protocol("glue/cola")["optim.warmup_epochs"] == 5
    assert protocol("glue/cola")["optim.schedule"] == "linear"
    assert any("MNLI" in note for note in notes("glue/rte"))
    assert not any("MNLI" in note for note in notes("glue/cola"))


def test_what_has_no_published_protocol_has_none():
    assert protocol("digits") == {}
    assert protocol("vtab/unknown") == {}
    assert notes("folder") == ()
