"""The Trainer of transformers with our objectives: our engine's losses, step by step, and peft's files at the end."""

from pathlib import Path

import pytest
import torch
from torch.optim import SGD
from torch.utils.data import Dataset
from transformers import TrainingArguments

import pace_tune
from pace_tune.errors import ConfigError
from pace_tune.integrations.hf_trainer import PaceTrainer
from pace_tune.pace.objective import Objective
from tests.methods.tiny_models import CLASSES, inputs_of, model_of

from .carrying import twins

BATCH, STEPS = 4, 4


class Rows(Dataset):
    """Samples as dictionaries, in a fixed order."""

    def __init__(self, *, index: bool = False) -> None:
        self.inputs, self.index = inputs_of("bert", batch=BATCH * STEPS, dtype=torch.float32), index
        self.labels = torch.arange(BATCH * STEPS) % CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        row = {key: value[i] for key, value in self.inputs.items()} | {"labels": self.labels[i]}
        return row | {"index": torch.tensor(i)} if self.index else row


def arguments(folder: Path, **more) -> TrainingArguments:
    plain = {"report_to": [], "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "use_cpu": True, "max_grad_norm": 0.0}
    size = {"per_device_train_batch_size": BATCH, "num_train_epochs": 1, "train_sampling_strategy": "sequential"}
    return TrainingArguments(output_dir=str(folder), seed=3, **plain, **size, **more)


def engine_losses(adapted, objective: Objective, rows: Rows, *, lr: float) -> list[float]:
    """The same steps by hand, with the noise that the Trainer's seed gives."""
    optimizer = SGD(adapted.parameters(), lr=lr)
    memory = objective.memory(samples=len(rows), classes=CLASSES, sites=len(adapted.sites))
    found = []
    for step in range(STEPS):
        part = slice(step * BATCH, (step + 1) * BATCH)
        optimizer.zero_grad()
        batch = {key: value[part] for key, value in rows.inputs.items()}
        terms = objective(adapted, batch, rows.labels[part], step=step, index=torch.arange(len(rows))[part], memory=memory)
        terms.total.backward()
        optimizer.step()
        found.append(float(terms.total))
    return found


@pytest.mark.parametrize(
    "objective", [pace_tune.Plain(), pace_tune.Pace(sigma=0.8, lambda_=0.5), pace_tune.PaceLazy(interval=2), pace_tune.PaceFast()]
)
def test_a_lora_model_trains_with_our_engines_losses(objective: Objective, tmp_path: Path):
    ours, theirs = twins(tmp_path / "adapter")
    rows = Rows(index=isinstance(objective, pace_tune.PaceFast))
    optimizer = SGD([p for p in theirs.parameters() if p.requires_grad], lr=0.05)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    trainer = PaceTrainer(theirs, arguments(tmp_path), objective=objective, train_dataset=rows, optimizers=(optimizer, constant))
    noise = torch.Generator().manual_seed(11)
    trainer.objective_loss.generator = noise
    trainer.train()
    found = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    torch.manual_seed(0)
    state = torch.Generator().manual_seed(11).get_state()
    torch.default_generator.set_state(state)
    expected = engine_losses(ours, objective, rows, lr=0.05)
    assert found == pytest.approx(expected, abs=2e-4)  # the Trainer logs four digits
    assert expected[0] != expected[-1]


def test_evaluation_is_without_noise_and_the_files_are_peft_s(tmp_path: Path):
    from peft import PeftModel

    _, theirs = twins(tmp_path / "adapter")
    rows = Rows()
    trainer = PaceTrainer(theirs, arguments(tmp_path / "out"), objective=pace_tune.Pace(sigma=2.0), train_dataset=rows, eval_dataset=rows)
    trainer.train()
    with torch.no_grad():
        logits = theirs.eval()(**rows.inputs).logits
    expected = torch.nn.functional.cross_entropy(logits, rows.labels)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(expected), abs=1e-5)
    torch.testing.assert_close(torch.from_numpy(trainer.predict(rows).predictions), logits, atol=1e-5, rtol=1e-5)
    trainer.save_model(str(tmp_path / "saved"))
    loaded = PeftModel.from_pretrained(model_of("bert", dtype=torch.float32), str(tmp_path / "saved")).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**rows.inputs).logits, logits)


def test_an_objective_with_memory_asks_for_the_samples_numbers(tmp_path: Path):
    _, theirs = twins(tmp_path / "adapter")
    trainer = PaceTrainer(theirs, arguments(tmp_path), objective=pace_tune.PaceFast(), train_dataset=Rows())
    with pytest.raises(ConfigError, match="index"):
        trainer.train()
