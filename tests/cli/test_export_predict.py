"""From a run to a folder that predicts, by command."""

import csv
import json
from pathlib import Path

import pytest

from pace_tune.cli.main import run
from pace_tune.files import write_text
from pace_tune.results.export import find_source
from pace_tune.study.run_config import RunConfig
from pace_tune.study.yaml_text import to_yaml
from tests.results.planned_sweeps import Planned, write_sweep
from tests.training.finished_lanes import DIGITS, photos, reviews, run_of, write_lane

CONFIRMED = {
    "sweep": "digits",
    "task": "digits",
    "metric": "test/accuracy",
    "scores": [{"recipe": recipe, "seed": seed, "state": "finished", "value": 0.8} for recipe in ("pace", "plain") for seed in range(2)],
    "means": {"pace": {"mean": 0.8, "half_width": 0.01, "count": 2}, "plain": {"mean": 0.7, "half_width": None, "count": 2}},
    "comparisons": [{"winner": "pace", "other": "plain", "difference": {"mean": 0.1, "half_width": 0.02, "count": 2}, "verdict": "better"}],
}


def trained(folder: Path, config: RunConfig) -> Path:
    """What `pace-tune train` leaves."""
    write_text(folder / "RUN.yaml", to_yaml(config.as_mapping()))
    write_lane(folder / "lanes" / "t0000", config)
    return folder


@pytest.fixture
def sweep(workplace: Path) -> Path:
    folder = write_sweep(workplace / "pace-runs", [Planned(value=0.5), Planned(value=0.9, rank=2)])
    lane = folder / "lanes" / "t0001"
    write_lane(lane, run_of(DIGITS, {"name": "lora_add", "rank": 2}))
    return folder


def test_the_winner_of_a_sweep_by_its_name(sweep: Path, workplace: Path, capsys):
    assert run(["export", "digits", "-o", "model", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["lane"] == str(sweep / "lanes" / "t0001")
    assert row["form"] == "timm"
    assert row["largest_difference"] < 1e-5
    assert {path.name for path in Path("model").iterdir()} == {
        "README.md",
        "config.json",
        "export.json",
        "model.safetensors",
        "preprocess.json",
    }
    card = Path("model/README.md").read_text()
    assert "library_name: timm" in card
    assert "not confirmed" in card
    assert "gradient norm" in card
    assert str(workplace) not in card


def test_a_folder_of_the_same_name_hides_no_sweep(sweep: Path, workplace: Path, capsys):
    (workplace / "digits").mkdir()  # the user's data
    assert find_source("digits", output=sweep.parent).lane == sweep / "lanes" / "t0001"
    assert run(["verify", "digits", "--no-track"]) == 2
    assert str(sweep / "lanes") in capsys.readouterr().err  # planned lanes lack what `verify` reads, but it found the sweep
    (workplace / "photos").mkdir()
    for arguments, wanted in (
        (["export", "photos", "-o", "model"], "nor a trained run (RUN.yaml)"),
        (["verify", "photos"], "no run in this"),
    ):
        assert run(arguments) == 2
        message = capsys.readouterr().err
        assert wanted in message
        assert "unknown study or task 'photos'" in message
        assert message.count("\n") == 1


def test_a_model_that_is_there_is_replaced_only_where_it_is_said(sweep: Path, capsys):
    assert run(["export", "digits", "-o", "model"]) == 0
    Path("model/mine.txt").touch()
    capsys.readouterr()
    assert run(["export", "digits", "-o", "model"]) == 2
    assert "'model' holds a model already; choose another folder, or replace it by --overwrite." in capsys.readouterr().err
    assert Path("model/mine.txt").exists()
    assert run(["export", "digits", "-o", "model", "--overwrite"]) == 0
    assert not Path("model/mine.txt").exists()


def test_a_confirmed_recipe_has_its_interval_on_the_card(sweep: Path, capsys):
    write_text(sweep / "confirm.json", json.dumps(CONFIRMED))
    assert run(["export", str(sweep), "-o", "model"]) == 0
    said = capsys.readouterr().out
    assert "loaded again" in said
    assert "trained on val too" not in said
    card = Path("model/README.md").read_text()
    assert "| `pace` | 0.8000 ± 0.0100 | 2 |" in card
    assert "`pace` is better than `plain`: difference 0.1000 ± 0.0200." in card
    assert "not confirmed" not in card


def test_what_confirmed_another_winner_is_neither_shipped_nor_on_the_card(sweep: Path, capsys):
    write_text(sweep / "confirm.json", json.dumps({**CONFIRMED, "trial": "t0000"}))
    assert run(["export", "digits", "--confirmed", "-o", "model"]) == 2
    said = capsys.readouterr().err
    assert said == "--confirmed: confirmed was t0000, and the winner is t0001 now: `pace-tune confirm digits` again.\n"
    assert run(["export", "digits", "-o", "model"]) == 0
    card = Path("model/README.md").read_text()
    assert "0.8000 ± 0.0100" not in card
    assert "not confirmed" in card


def test_the_confirmed_winner_is_shipped_with_its_first_seed_whatever_its_test_score(sweep: Path, capsys):
    run_file = run_of({**DIGITS, "data": {"train_on": "train+val"}}, {"name": "lora_add", "rank": 2})
    for seed in range(2):
        write_lane(sweep / "confirm" / f"pace-s{seed}", run_file)
    scores = [{**score, "lane": f"{score['recipe']}-s{score['seed']}", "value": 0.7 + 0.1 * score["seed"]} for score in CONFIRMED["scores"]]
    assert run(["export", "digits", "--confirmed", "-o", "model"]) == 2
    assert "`pace-tune confirm digits` trains them" in capsys.readouterr().err
    write_text(sweep / "confirm.json", json.dumps({**CONFIRMED, "scores": scores[::-1]}))
    assert run(["export", "digits", "--confirmed", "-o", "model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lane"] == str(sweep / "confirm" / "pace-s0")
    assert "trained on `train+val`" in Path("model/README.md").read_text()
    assert run(["export", "digits", "--confirmed", "-o", "model", "--overwrite"]) == 0
    assert " (trained on val too: no score on new data); its outputs and the run's " in capsys.readouterr().out
    assert run(["export", "digits", "--confirmed", "--register", "-o", "model"]) == 2


def test_images_of_ones_own_from_a_trained_run_to_their_labels(workplace: Path, capsys):
    trained(workplace / "run", run_of(photos(workplace / "photos"), "lora_mul_vpt_add"))
    assert run(["export", "run", "-o", "model"]) == 0
    assert str(workplace) not in Path("model/README.md").read_text()
    said = capsys.readouterr()
    assert said.err == "exporting run: written, loaded again and scored on val ...\n"
    assert said.out.splitlines()[-1] == "predict   pace-tune predict model INPUT..."
    assert run(["predict", "model", "photos/cat"]) == 0
    said = capsys.readouterr()
    assert "photos/cat/0.png" in said.out
    assert said.err == "loading model ...\npredicting photos/cat ...\n"
    assert run(["predict", "model", "photos/cat/0.png", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["input"] == "photos/cat/0.png"
    assert row["label"] in {"cat", "dog", "mat"}
    assert 1 / 3 < row["probability"] <= 1


def test_images_that_are_broken_are_named_and_the_others_predicted(workplace: Path, capsys):
    trained(workplace / "run", run_of(photos(workplace / "photos"), "linear"))
    assert run(["export", "run", "-o", "model"]) == 0
    broken = [workplace / "photos" / "cat" / f"{number:03}.png" for number in range(12)]
    broken[0].write_text("no picture")
    capsys.readouterr()
    assert run(["predict", "model", "photos/cat"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[2:] == ["photos/cat/000.png: not an image that can be read."]
    assert said.out.count("photos/cat/") == 8
    assert "000.png" not in said.out
    assert run(["predict", "model", "photos/cat", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert rows[1] == {"input": "photos/cat/000.png", "skipped": "not an image that can be read."}
    assert [set(row) for row in rows if "skipped" not in row] == [{"input", "label", "probability"}] * 8
    for file in broken:
        file.write_text("no picture")
    assert run(["predict", "model", "photos/cat"]) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "photos/cat/009.png: not an image that can be read.",
        "and 2 more that cannot be read",
    ]
    assert run(["predict", "model", *(str(file.relative_to(workplace)) for file in broken[:2]), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(":")[0] for line in said.err.splitlines()[2:]] == ["photos/cat/000.png", "photos/cat/001.png"]


@pytest.mark.parametrize(
    ("spec", "arguments", "said"),
    [
        ({"max_length": 8}, ["a text", ""], "input 2: the text is empty."),
        ({"image_size": 8}, [" "], "input 1: the name of the image is empty."),
        ({"image_size": 8}, ["gone.png"], "gone.png: no such file. model takes images: files, or folders of them."),
        ({"image_size": 8}, ["a text that is long " * 20], "no such file. model takes images"),
        ({"image_size": 8}, ["model"], "model: no image in there. model takes images"),
        ({"max_length": 8}, ["model/preprocess.json"], "model/preprocess.json: a file, but model takes texts"),
        (
            {"max_length": 8},
            ["a text", "model"],
            "model: a folder, but model takes texts, each a word of the command; a table",
        ),
        ({"max_length": 8}, ["--file", "gone.csv"], "gone.csv: no such file."),
        ({"max_length": 8}, ["--file", "model/loose.txt"], "model/loose.txt: a table ends in one of"),
        ({"max_length": 8, "columns": ["text"]}, ["--file", "model/own.csv"], "model/own.csv: lacks the column 'text'; it has 'words'."),
        ({"image_size": 8}, ["--file", "model/own.csv"], "model/own.csv: has none of the columns"),
        ({"max_length": 8}, ["--file", "model/own.csv", "--column", "wrods"], "lacks the column 'wrods'; it has 'words'."),
    ],
)
def test_inputs_are_looked_at_before_the_model_is_loaded(workplace: Path, capsys, spec: dict, arguments: list[str], said: str):
    # There are no weights: loading would fail first.
    write_text(workplace / "model" / "preprocess.json", json.dumps({"form": "timm", "target": "class", "labels": ["a", "b"], **spec}))
    write_text(workplace / "model" / "own.csv", "words\na text\n")
    write_text(workplace / "model" / "loose.txt", "a text\n")
    assert run(["predict", "model", *arguments]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_a_table_of_texts_from_a_trained_run_to_its_labels(workplace: Path, capsys):
    trained(workplace / "run", run_of(reviews(workplace), "lora"))
    assert run(["export", "run", "-o", "model"]) == 0
    assert run(["export", "run", "-o", "adapter", "--peft", "--json"]) == 0
    with Path("new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "said"], ["good movie", "a"], ["very bad", "b"]])
    answers = []
    for model in ("model", "adapter"):
        capsys.readouterr()
        assert run(["predict", model, "--file", "new.csv", "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [row["input"] for row in answers[0]] == ["good movie", "very bad"]
    assert [row["label"] for row in answers[0]] == [row["label"] for row in answers[1]]
    assert run(["predict", "model", "--file", "new.csv", "--column", "said", "--json"]) == 0
    assert [row["input"] for row in json.loads(capsys.readouterr().out)] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "nowhere", "-o", "model"], "no sweep in this folder"),
        (["export", "empty", "-o", "model"], "neither a lane (lane.safetensors), nor a trained run"),
        (["export", "run", "-o", "full"], "is no export; choose another"),
        (["export", "run", "-o", "model", "--peft"], "none of peft's"),
        (["export", "run", "-o", "model", "--register"], "only a trial of a sweep"),
        (["predict", "empty", "x.png"], "holds no exported model"),
        (["predict", "run"], "give inputs, or a table by --file"),
    ],
)
def test_mistakes_are_a_line(workplace: Path, capsys, arguments: list[str], said: str):
    trained(workplace / "run", run_of(DIGITS, "lora_add"))
    (workplace / "empty").mkdir()
    (workplace / "full").mkdir()
    (workplace / "full" / "mine.txt").touch()
    assert run(arguments) == 2
    message = capsys.readouterr().err
    (mistake,) = (line for line in message.splitlines() if line != "exporting run: written, loaded again and scored on val ...")
    assert said in mistake
