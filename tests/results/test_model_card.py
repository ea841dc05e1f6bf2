"""The card of an exported model says what it is, how good it is, and nothing of the machine that made it."""

from pace_tune.results.model_card import model_card

RUN = {
    "task": {"name": "folder", "path": "/data/of/mine/photos", "classes": None},
    "backbone": {"name": "vit_nano_cifar10"},
    "method": {"name": "peft:lora", "rank": 4},
    "objective": {"name": "pace", "lambda": 0.5},
    "data": {"root": None, "train_on": "train"},
}
DONE = {"form": "timm", "run": RUN, "labels": ["cat", "dog"], "scores": {"accuracy": 0.75}, "code": "timm.create_model(...)"}


def test_places_of_this_machine_stay_here():
    card = model_card(DONE, metrics={})
    assert "/data/of" not in card
    assert "`path: photos`" in card
    assert "classes: cat, dog" in card


def test_the_base_is_named_by_its_folder_where_it_comes_from_one():
    assert "\n`vit_nano_cifar10`, fine-tuned on" in model_card(DONE, metrics={})
    own = {**DONE, "run": {**RUN, "backbone": {"name": "hf_classifier", "path": "/models/of/mine/roberta-base"}}}
    assert "\n`roberta-base` (`hf_classifier`), fine-tuned on" in model_card(own, metrics={})


def test_a_model_that_saw_val_says_so():
    assert "trained on `val` too" not in model_card(DONE, metrics={})
    both = {**DONE, "run": {**RUN, "data": {"root": None, "train_on": "train+val"}}}
    assert "trained on `val` too" in model_card(both, metrics={})


def test_measures_stand_with_their_meaning_and_only_if_there_are_any():
    assert "## Measures" not in model_card(DONE, metrics={"val/loss": 1.0})
    assert "| `measure/grad_norm` | 1.25 | gradient norm of the training loss |" in model_card(DONE, metrics={"measure/grad_norm": 1.25})


def test_each_library_has_its_way_to_load_and_its_tags():
    ways = {"timm": "local-dir", "transformers": 'model = pipeline("text-classification", model=".")', "peft": "PeftModel.from_pretrained"}
    for form, line in ways.items():
        code = line if form == "peft" else 'pipeline("text-classification", model=".")'
        card = model_card({**DONE, "form": form, "code": code}, metrics={})
        assert line in card
        assert f"library_name: {form}" in card
        assert "peft-lora" in card
