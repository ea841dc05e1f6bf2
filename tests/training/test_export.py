"""A run's model as others load it: timm, transformers and peft give the outputs that the run gives."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pace_tune.errors import ConfigError, DataError, PaceTuneError, UnsupportedError
from pace_tune.methods.adapted import Adapted, why_not_merged
from pace_tune.registry import methods
from pace_tune.training import export as exporting
from pace_tune.training.export import FinishedLane, export_lane, score_export
from pace_tune.training.scoring import predict

from .finished_lanes import DIGITS, photos, photos_for_transformers, reviews, run_of, write_lane

CPU = torch.device("cpu")


def outputs(lane: Path) -> torch.Tensor:
    finished = FinishedLane.read(lane, device=CPU)
    return predict(finished.adapted, finished.val)[0]


def normalised(lane: Path) -> dict[str, torch.Tensor]:
    finished = FinishedLane.read(lane, device=CPU)
    return finished.val.shared_batch(slice(0, len(finished.val)), lanes=1)


OWN = [name for name in methods.names() if not name.startswith("peft:")]
PEFT = sorted(set(methods.names()) - set(OWN) - {"peft:oft", "peft:dora"})


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    # Relative to the whole: single logits near zero are differences of large numbers, and have no digits to lose.
    assert float((found - expected).norm() / expected.norm()) <= 1e-5


@pytest.mark.parametrize("name", [*OWN, "peft:oft", "peft:dora", *(pytest.param(name, marks=pytest.mark.slow) for name in PEFT)])
def test_every_method_is_exported_to_timm_or_says_in_one_line_why_not(name: str, tmp_path: Path):
    import timm

    run = run_of(DIGITS, name)
    try:
        lane = write_lane(tmp_path / "lane", run)
    except UnsupportedError:
        pytest.skip("not defined on this model")
    obstacle = why_not_merged(Adapted(run.backbone.build(num_classes=10), [run.method]))
    if obstacle:
        with pytest.raises(UnsupportedError, match="cannot be merged") as caught:
            export_lane(lane, out=tmp_path / "model", device="cpu")
        assert str(caught.value).count("\n") == 0
        assert obstacle in str(caught.value)
        assert not (tmp_path / "model").exists()
        return
    done = export_lane(lane, out=tmp_path / "model", device="cpu")
    assert done["form"] == "timm"
    model = timm.create_model("local-dir:" + str(tmp_path / "model"), pretrained=True).eval()
    with torch.no_grad():
        same(model(**normalised(lane)), outputs(lane))


def test_the_code_of_the_card_loads_a_timm_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import timm

    lane = write_lane(tmp_path / "lane", run_of(DIGITS, "lora_mul_vpt_add"))
    done = export_lane(lane, out=tmp_path / "model", device="cpu")
    monkeypatch.chdir(tmp_path / "model")
    model = eval(done["code"], {"timm": timm}).eval()
    with torch.no_grad():
        same(model(**normalised(lane)), outputs(lane))


def test_timm_knows_labels_and_preprocessing(tmp_path: Path):
    import timm
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    setup = photos(tmp_path / "photos")
    lane = write_lane(tmp_path / "lane", run_of(setup, "lora_add"))
    export_lane(lane, out=tmp_path / "model", device="cpu")
    model = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    assert model.pretrained_cfg["label_names"] == ["cat", "dog", "mat"]
    transform = create_transform(**resolve_model_data_config(model))
    finished = FinishedLane.read(lane, device=CPU)
    listed = finished.run.task.listed("val", root=None, problems=[])
    x = torch.stack([transform(Image.open(item.source.path).convert("RGB")) for item in listed])
    # Its middle may lie a pixel beside ours: it cuts once where we cut twice.
    assert float((x - normalised(lane)["x"]).abs().mean()) < 0.05


@pytest.mark.parametrize("name", [*OWN, *(pytest.param(name, marks=pytest.mark.slow) for name in PEFT)])
def test_every_method_is_exported_to_transformers_or_says_in_one_line_why_not(name: str, tmp_path: Path):
    from transformers import AutoModelForSequenceClassification

    try:
        lane = write_lane(tmp_path / "lane", run_of(reviews(tmp_path), name))
        export_lane(lane, out=tmp_path / "model", device="cpu")
    except UnsupportedError as error:
        assert "\n" not in str(error)  # noqa: PT017  (most are exported)
        return
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        same(model(**normalised(lane)).logits, outputs(lane))


def test_transformers_load_a_vit_and_prepare_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image
    from transformers import AutoImageProcessor, pipeline

    from pace_tune.training.predict import Predictor

    lane = write_lane(tmp_path / "lane", run_of(photos_for_transformers(tmp_path), "lora_add"))
    done = export_lane(lane, out=tmp_path / "model", device="cpu")
    assert done["form"] == "transformers"
    files = sorted((tmp_path / "photos").rglob("*.png"))[:4]
    found = list(Predictor(tmp_path / "model", device="cpu").images(files))
    images = [Image.open(file).convert("RGB") for file in files]
    monkeypatch.chdir(tmp_path / "model")
    answers = eval(done["code"], {"pipeline": pipeline})(images)
    # Its resizing rounds a little differently.
    assert [one["score"] for one, *_ in answers] == pytest.approx([one.probability for one in found], abs=0.02)
    assert AutoImageProcessor.from_pretrained(tmp_path / "model")(images, return_tensors="pt")["pixel_values"].shape == (4, 3, 16, 16)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architectures"] == ["ViTForImageClassification"]


@pytest.mark.parametrize(
    ("kind", "method"), [("bert", "lora_add"), ("bert", "bitfit"), ("roberta", "lora_add"), ("roberta", "bitfit"), ("llama", "lora")]
)
def test_transformers_load_a_language_model(kind: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from transformers import pipeline

    from pace_tune.training.predict import Predictor

    lane = write_lane(tmp_path / "lane", run_of(reviews(tmp_path, kind=kind), method))
    done = export_lane(lane, out=tmp_path / "model", device="cpu")
    assert done["form"] == "transformers"
    text = "the cat sat on the mat"
    (ours,) = Predictor(tmp_path / "model", device="cpu").texts([text])
    monkeypatch.chdir(tmp_path / "model")
    (theirs,) = eval(done["code"], {"pipeline": pipeline})([text])
    assert theirs["label"] == ours.label
    assert theirs["score"] == pytest.approx(ours.probability, abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "peft:dora", "peft:ia3"])
def test_peft_loads_an_adapter(method: str, tmp_path: Path):
    from peft import PeftModel

    run = run_of(reviews(tmp_path), method)
    lane = write_lane(tmp_path / "lane", run)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # of libraries to each other: nothing for a user
        assert export_lane(lane, out=tmp_path / "model", form="peft", device="cpu")["form"] == "peft"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(run.backbone.build(num_classes=2), str(tmp_path / "model")).eval()
    with torch.no_grad():
        same(model(**normalised(lane)).logits, outputs(lane))


def test_the_lines_on_an_adapters_card_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = run_of(reviews(tmp_path), "lora")
    lane = write_lane(tmp_path / "lane", run)
    code = export_lane(lane, out=tmp_path / "model", form="peft", device="cpu")["code"]
    base = Path(run.backbone.path)
    (tmp_path / "model" / base.name).symlink_to(base)
    monkeypatch.chdir(tmp_path / "model")
    loaded: dict[str, Any] = {}
    exec(code, loaded)
    with torch.no_grad():
        same(loaded["model"](**normalised(lane)).logits, outputs(lane))
    assert loaded["tokenizer"]("the cat")["input_ids"]


def test_peft_loads_an_adapter_of_a_vit(tmp_path: Path):
    from pace_tune.training.predict import Predictor

    lane = write_lane(tmp_path / "lane", run_of(photos_for_transformers(tmp_path), "lora"))
    export_lane(lane, out=tmp_path / "adapter", form="peft", device="cpu")
    export_lane(lane, out=tmp_path / "merged", device="cpu")
    both = [list(Predictor(tmp_path / form, device="cpu").images([tmp_path / "photos"])) for form in ("adapter", "merged")]
    assert [one.probability for one in both[0]] == pytest.approx([one.probability for one in both[1]], abs=1e-5)


def test_what_is_no_peft_method_says_so(tmp_path: Path):
    lane = write_lane(tmp_path / "lane", run_of(DIGITS, "lora_mul"))
    with pytest.raises(UnsupportedError, match="lora_mul"):
        export_lane(lane, out=tmp_path / "model", form="peft", device="cpu")
    assert list(tmp_path.iterdir()) == [lane]


def test_a_run_that_has_not_ended_is_refused(tmp_path: Path):
    lane = write_lane(tmp_path / "lane", run_of(DIGITS, "linear"), epoch=2)
    with pytest.raises(ConfigError, match="epoch 2 of 3"):
        export_lane(lane, out=tmp_path / "model", device="cpu")
    with pytest.raises(ConfigError, match="holds no lane"):
        export_lane(tmp_path, out=tmp_path / "model", device="cpu")


def test_only_an_export_is_replaced(tmp_path: Path):
    lane = write_lane(tmp_path / "lane", run_of(DIGITS, "linear"))
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no export"):
        export_lane(lane, out=tmp_path / "papers", device="cpu")
    assert (tmp_path / "papers" / "mine.txt").read_text() == "mine"
    export_lane(lane, out=tmp_path / "model", device="cpu")
    (tmp_path / "model" / "older.txt").touch()
    export_lane(lane, out=tmp_path / "model", device="cpu")
    assert not (tmp_path / "model" / "older.txt").exists()


def test_every_file_is_as_readable_as_the_umask_lets_it_be(tmp_path: Path):
    lane = write_lane(tmp_path / "lane", run_of(reviews(tmp_path), "lora_add"))
    before = os.umask(0o027)
    try:
        export_lane(lane, out=tmp_path / "model", device="cpu")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {0o640}


def test_an_export_that_does_not_do_what_the_run_does_never_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lane = write_lane(tmp_path / "lane", run_of(DIGITS, "lora_add"))
    merge = exporting.merge

    def forgetful(adapted):
        model = merge(adapted)
        torch.nn.init.zeros_(model.blocks[2].mlp.fc1.weight)
        return model

    monkeypatch.setattr(exporting, "merge", forgetful)
    with pytest.raises(PaceTuneError, match="differs from the run"):
        export_lane(lane, out=tmp_path / "model", device="cpu")
    assert list(tmp_path.iterdir()) == [lane]


def test_the_scores_are_those_of_what_was_loaded(tmp_path: Path):
    run = run_of(DIGITS, "lora_add")
    lane = write_lane(tmp_path / "lane", run)
    done = export_lane(lane, out=tmp_path / "model", device="cpu")
    assert done["scores"] == pytest.approx(score_export(tmp_path / "model", run=run.as_mapping()))
    spec = json.loads((tmp_path / "model" / "preprocess.json").read_text())
    assert spec["labels"] == list("0123456789")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be loaded"):
        score_export(tmp_path / "model", run=run.as_mapping())
