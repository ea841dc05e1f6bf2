"""Draws the pictures of the explanation pages from runs on the digits: ``python docs/figures.py`` (minutes on two cores)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from pace_tune.methods.context import generator
from pace_tune.pace.draws import draw_step, noise_plan
from pace_tune.pace.levels import sigma_levels
from pace_tune.study.run_config import RunConfig
from pace_tune.training.export import FinishedLane
from pace_tune.worker import Worker

IMAGES = Path(__file__).parent / "images"
COLOURS = {"plain": "#E69F00", "noise": "#009E73", "pace": "#0072B2"}  # those of sweeps
SEEDS, EPOCHS, EVERY = 3, 30, 3
VIT_B_BLOCKS = 12
Curves = Mapping[str, list[list[dict[str, Any]]]]
"""Objective -> a list of reports a seed."""


def main() -> None:
    """Train, then draw all pictures."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 150})
    draw_levels(IMAGES / "noise_levels.png")
    with tempfile.TemporaryDirectory() as folder:
        curves = train(Path(folder))
        draw_measures(curves, IMAGES / "measures.png")
        draw_views(Path(folder), IMAGES / "views.png")


def config(objective: str, seed: int) -> dict[str, Any]:
    """Return one run as a mapping."""
    strength = {"sigma": 1.0} if objective == "noise" else {"sigma": 1.0, "lambda": 0.5} if objective == "pace" else {}
    run = {
        "task": {"name": "digits", "shots": 10},
        "backbone": "vit_nano_cifar10",
        "method": {"name": "lora_mul_vpt_add", "rank": 8},
        "objective": {"name": objective, **strength},
        "optim": {"lr": 5e-3, "epochs": EPOCHS, "batch_size": 20, "warmup_epochs": 4},
        "measure": {"every_epochs": EVERY, "samples": 64, "jacobian_projections": 2},
        "seed": seed,
    }
    return RunConfig.model_validate(run).as_mapping()


def train(folder: Path) -> Curves:
    """Train every objective with every seed, and return the reports of the epochs that were measured."""
    torch.set_num_threads(1)
    first = config("plain", 0)
    worker = Worker({part: first[part] for part in ("task", "backbone", "data")}, storage=folder, device="cpu")
    for objective in COLOURS:
        for seed in range(SEEDS):
            worker.open(f"{objective}-{seed}", config(objective, seed))
    reports: list[dict[str, Any]] = []
    for _ in range(EPOCHS):
        reports += worker.advance()
    due = [report for report in reports if report["epoch"] % EVERY == 0]
    return {o: [[r for r in due if r["lane"] == f"{o}-{seed}"] for seed in range(SEEDS)] for o in COLOURS}


def draw_levels(path: Path) -> None:
    """Draw how sigma falls with depth on a ViT-B, the head being the last level."""
    figure, axes = plt.subplots(figsize=(5.2, 2.4))
    levels = sigma_levels(VIT_B_BLOCKS, quiet_blocks=1)
    axes.bar(range(len(levels)), levels, color=["#0072B2"] * VIT_B_BLOCKS + ["#E69F00"], width=0.7)
    axes.set(xlabel="block", ylabel="noise level / σ", xticks=range(len(levels)), xticklabels=[*range(VIT_B_BLOCKS), "head"])
    save(figure, path)


def draw_measures(curves: Curves, path: Path) -> None:
    """Draw what is measured over the epochs: the mean over seeds, and their range."""
    panels = {
        "val/accuracy": "validation accuracy",
        "gap/loss": "generalisation gap of the loss",
        "measure/grad_norm": "gradient norm",
        "measure/jacobian_norm": "Jacobian norm",
        "measure/fp_distance": "FP-distance",
        "measure/fp_distance_relative": "FP-distance / mean ‖f‖²",
    }
    figure, grid = plt.subplots(2, 3, figsize=(9, 4.6), sharex=True)
    for axes, (key, title) in zip(grid.flat, panels.items(), strict=True):
        for objective, runs in curves.items():
            band(axes, runs, key, label=objective, colour=COLOURS[objective])
        axes.set_title(title, loc="left", fontsize=9)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    grid[0, 0].legend(frameon=False)
    save(figure, path)


def band(axes: Axes, runs: Sequence[Sequence[Mapping[str, Any]]], key: str, *, label: str, colour: str) -> None:
    """Draw one metric of several runs."""
    epochs = [report["epoch"] for report in runs[0]]
    values = np.array([[report["metrics"][key] for report in run] for run in runs])
    axes.plot(epochs, values.mean(axis=0), color=colour, label=label)
    axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)


def draw_views(folder: Path, path: Path, *, images: int = 200, views: int = 20) -> None:
    """Draw how far two shaken outputs of an image are apart, and how often they name different classes."""
    figure, (distances, changes) = plt.subplots(1, 2, figsize=(7.2, 2.7), width_ratios=(2, 1))
    for place, (objective, colour) in enumerate(COLOURS.items()):
        logits_NVC = noisy_outputs(folder / f"{objective}-0", images=images, views=views)
        first_NVC, second_NVC = logits_NVC[:, ::2], logits_NVC[:, 1::2]
        distance_N = (first_NVC - second_NVC).square().sum(dim=-1).mean(dim=1) / logits_NVC.square().sum(dim=-1).mean(dim=1)
        distances.hist(distance_N.numpy(), bins=np.linspace(0, 0.6, 40), histtype="step", color=colour, label=objective, linewidth=1.4)
        changed = (first_NVC.argmax(dim=-1) != second_NVC.argmax(dim=-1)).float().mean()
        changes.bar(place, 100 * float(changed), color=colour, width=0.6)
    distances.set(xlabel="squared distance of two views / mean ‖f‖²", ylabel="images")
    distances.legend(frameon=False, title="trained with")
    changes.set(ylabel="class changes, % of pairs", xticks=range(len(COLOURS)), xticklabels=list(COLOURS))
    save(figure, path)


@torch.no_grad()
def noisy_outputs(lane: Path, *, images: int, views: int) -> Tensor:
    """Return logits (N, V, C) of validation images under so many draws of PACE's noise with sigma 1."""
    finished = FinishedLane.read(lane, device=torch.device("cpu"))
    adapted, inputs = finished.adapted, finished.val.shared_batch(slice(0, images), lanes=1)
    rng, like, plan = generator(0), torch.ones(1), noise_plan(adapted)
    outputs = []
    for _ in range(views):
        draw = draw_step(adapted, generators=[rng], samples=images, plan=plan, sigma_K=like)
        with adapted.context.step(rows=images, draw=draw):
            outputs.append(adapted(**inputs))
    return torch.stack(outputs, dim=1)


def save(figure: Any, path: Path) -> None:
    """Write a picture."""
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
