"""A LightningModule with our objectives: our engine's losses, on our adapters and on peft's."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import pace_tune
from pace_tune.integrations.lightning import PaceSteps, unpacked
from tests.methods.tiny_models import CLASSES, inputs_of

from .carrying import twins

BATCH, STEPS = 4, 3
lightning = pytest.importorskip("lightning", reason="the extra `lightning` is not installed")


class Rows(Dataset):
    def __init__(self) -> None:
        self.inputs = inputs_of("bert", batch=BATCH * STEPS, dtype=torch.float32)
        self.labels = torch.arange(BATCH * STEPS) % CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {key: value[i] for key, value in self.inputs.items()} | {"labels": self.labels[i]}


def module(adapted):
    class Tuned(PaceSteps, lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.adapted, self.objective, self.losses = adapted, pace_tune.Pace(sigma=0.8), []

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.losses.append(float(loss))
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.adapted.parameters(), lr=0.05)

    return Tuned()


def fit(adapted, folder: Path):
    tuned, rows = module(adapted), Rows()
    # One generator for all, whatever Lightning itself draws.
    tuned.objective_loss.generator = torch.Generator().manual_seed(11)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, **quiet)
    trainer.fit(tuned, DataLoader(rows, batch_size=BATCH), DataLoader(rows, batch_size=BATCH))
    return tuned.losses, {key: float(value) for key, value in trainer.callback_metrics.items()}


def by_hand(adapted) -> list[float]:
    """The same steps of our engine, without Lightning."""
    rows, objective, noise = Rows(), pace_tune.Pace(sigma=0.8), torch.Generator().manual_seed(11)
    optimizer = torch.optim.SGD(adapted.parameters(), lr=0.05)
    found = []
    for step in range(STEPS):
        part = slice(step * BATCH, (step + 1) * BATCH)
        batch = {key: value[part] for key, value in rows.inputs.items()}
        optimizer.zero_grad()
        loss = objective(adapted, batch, rows.labels[part], step=step, generator=noise).total
        loss.backward()
        optimizer.step()
        found.append(float(loss))
    return found


@pytest.mark.filterwarnings("ignore")
def test_a_peft_lora_trains_with_our_engines_losses(tmp_path: Path):
    _, theirs = twins(tmp_path / "one")
    _, same = twins(tmp_path / "two")
    found, _ = fit(pace_tune.adapt(theirs), tmp_path)
    assert found == pytest.approx(by_hand(pace_tune.adapt(same)), abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_our_adapters_and_pefts_train_alike(tmp_path: Path):
    ours, theirs = twins(tmp_path / "adapter")
    expected, metrics = fit(ours, tmp_path)
    found, _ = fit(pace_tune.adapt(theirs), tmp_path)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == STEPS
    assert set(metrics) == {"train/loss", "train/task_loss", "train/consistency", "val/loss", "val/accuracy"}


def test_batches_of_either_shape():
    inputs, labels = torch.zeros(2, 3), torch.tensor([0, 1])
    assert unpacked((inputs, labels))[2] is None
    assert unpacked((inputs, labels, labels))[2] is labels
    found, targets, index = unpacked({"x": inputs, "labels": labels, "index": labels})
    assert (list(found), targets, index) == (["x"], labels, labels)
