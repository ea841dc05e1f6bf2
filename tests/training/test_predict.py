"""Predictions from an exported folder are the evaluation's outputs, whatever way the inputs come in."""

import csv
import json
from pathlib import Path

import pytest
import torch

from pace_tune.errors import DataError, UnsupportedError
from pace_tune.training.export import FinishedLane, export_lane
from pace_tune.training.predict import Predictor
from pace_tune.training.scoring import predict

from .finished_lanes import DIGITS, photos, problems, reviews, run_of, write_lane


def exported(tmp_path: Path, setup: dict, method: str = "lora_add") -> tuple[FinishedLane, Predictor]:
    lane = write_lane(tmp_path / "lane", run_of(setup, method))
    export_lane(lane, out=tmp_path / "model", device="cpu")
    return FinishedLane.read(lane, device=torch.device("cpu")), Predictor(tmp_path / "model", device="cpu")


def test_images_from_files_as_in_evaluation(tmp_path: Path):
    finished, predictor = exported(tmp_path, photos(tmp_path / "photos"))
    files = [item.source.path for item in finished.run.task.listed("val", root=None, problems=[])]
    expected = predict(finished.adapted, finished.val)[0].softmax(dim=-1)
    found = list(predictor.images(files))
    torch.testing.assert_close(torch.tensor([one.probabilities for one in found]), expected, atol=1e-5, rtol=0)
    names = ("cat", "dog", "mat")
    assert [one.label for one in found] == [names[i] for i in expected.argmax(dim=-1)]
    assert [one.probability for one in found] == pytest.approx(expected.max(dim=-1).values.tolist(), abs=1e-5)
    (encoded, *_) = predictor.images([file.read_bytes() for file in files])
    assert encoded.probability == found[0].probability
    with (tmp_path / "photos" / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image"], *([str(path.relative_to(tmp_path / "photos"))] for path in files)])
    assert [one.label for one in predictor.file(tmp_path / "photos" / "list.csv")] == [one.label for one in found]
    assert len(list(predictor.images([tmp_path / "photos"]))) == 24


@pytest.mark.parametrize("pairs", [False, True])
def test_texts_as_in_evaluation(pairs: bool, tmp_path: Path):
    finished, predictor = exported(tmp_path, reviews(tmp_path, pairs=pairs))
    texts = finished.run.task.texts("val", root=None, problems=[]).texts
    expected = predict(finished.adapted, finished.val)[0].softmax(dim=-1)
    found = list(predictor.texts(texts))
    torch.testing.assert_close(torch.tensor([one.probabilities for one in found]), expected, atol=1e-5, rtol=0)
    assert {one.label for one in found} <= {"good", "bad"}
    assert len(list(predictor.file(tmp_path / "train.jsonl"))) == 36
    wrong = [("a", "b", "c")]
    with pytest.raises(DataError, match="at a time"):
        list(predictor.texts(wrong))


def test_values_as_in_evaluation(tmp_path: Path):
    finished, predictor = exported(tmp_path, reviews(tmp_path, value=True))
    texts = finished.run.task.texts("val", root=None, problems=[]).texts
    found = list(predictor.texts(texts))
    assert [one.value for one in found] == pytest.approx(predict(finished.adapted, finished.val)[0, :, 0].tolist(), abs=1e-5)
    assert set(found[0].as_row()) == {"input", "value"}


def test_answers_as_in_evaluation(tmp_path: Path):
    finished, predictor = exported(tmp_path, problems(tmp_path), "lora")
    (expected,) = finished.judge.generate(finished.adapted, finished.val)
    questions = [json.loads(line)["question"] for line in (tmp_path / "gsm8k" / "train.jsonl").read_text().splitlines()]
    held_out = [questions[i] for i in finished.run.task._index("val", len(questions))]
    found = list(predictor.texts(held_out))
    assert [one.label for one in found] == expected
    assert set(found[0].as_row()) == {"input", "label"}


def test_inputs_of_the_other_kind_and_files_that_are_not_there(tmp_path: Path):
    _, predictor = exported(tmp_path, DIGITS, "linear")
    with pytest.raises(UnsupportedError, match="takes images"):
        list(predictor.texts(["a"]))
    with pytest.raises(DataError, match="no such file"):
        list(predictor.images([tmp_path / "nowhere.png"]))
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.png: not an image"):
        list(predictor.images([tmp_path / "text.png"]))
    (skipped,) = predictor.images([tmp_path / "text.png"], skip_broken=True)
    assert skipped.as_row() == {"input": str(tmp_path / "text.png"), "skipped": "not an image that can be read."}
    (tmp_path / "list.csv").write_text("name\na.png\n")
    with pytest.raises(DataError, match="none of the columns image, path, file"):
        list(predictor.file(tmp_path / "list.csv"))
    with pytest.raises(DataError, match="holds no exported model"):
        Predictor(tmp_path)
