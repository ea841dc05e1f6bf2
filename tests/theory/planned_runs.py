"""Finished runs written to disk with the numbers a test wants them to have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

CONFIG = {
    "task": {"name": "digits", "shots": 10},
    "backbone": {"name": "vit_nano_cifar10"},
    "method": {"name": "linear"},
    "optim": {"lr": 1e-3},
    "data": {},
    "measure": {"every_epochs": 1},
}
METRICS = {
    "val/loss": 0.9,
    "val/accuracy": 0.7,
    "gap/loss": 0.4,
    "gap/accuracy": 0.2,
    "measure/grad_norm": 1.0,
    "measure/jacobian_norm": 50.0,
    "measure/fp_distance": 10.0,
    "measure/fp_distance_relative": 0.5,
    "measure/logit_norm": 5.0,
    "best/accuracy": 0.7,
    "best/step": 3,
}


def write_run(
    root: Path,
    name: str,
    *,
    objective: Mapping[str, Any],
    seed: int = 0,
    scale: Mapping[str, float] | None = None,
    epochs: int = 4,
    state: str = "finished",
    lr: float = 1e-3,
    confirmed: bool = False,
) -> Path:
    """Write a lane whose metrics start at 1.5 times their end, times `scale`; one that was confirmed has the score of training alone."""
    folder = root / name
    folder.mkdir(parents=True)
    lines = []
    for epoch in range(1, epochs + 1):
        rate = 1 + 0.5 * (epochs - epoch) / max(1, epochs - 1)
        metrics = {key: value * rate * (scale or {}).get(key, 1.0) for key, value in METRICS.items()}
        metrics = {"train/loss": 0.5, "best/step": 1.0} if confirmed else metrics
        lines.append(json.dumps({"epoch": epoch, "state": "running" if epoch < epochs else state, "metrics": metrics}))
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {**CONFIG, "objective": objective, "seed": seed, "optim": {"lr": lr}}
    config |= {"data": {"train_on": "train+val"}} if confirmed else {}
    save_file({"values:x": np.zeros(1, dtype=np.float32)}, folder / "lane.safetensors", metadata={"run": json.dumps(config)})
    return folder


def write_pairs(root: Path, scales: Mapping[str, Mapping[str, float]], *, seeds: int = 5, spread: float = 0.02) -> Path:
    """Write runs of several objectives over seeds; a kind's metrics are scaled, with a little chance in each seed."""
    rng = np.random.default_rng(0)
    for kind, scale in scales.items():
        for seed in range(seeds):
            noisy = {key: scale.get(key, 1.0) * float(np.exp(spread * rng.normal())) for key in METRICS}
            fields = {"sigma": 1.0, "lambda": 0.5} if kind == "pace" else {}
            write_run(root, f"{kind}-{seed}", objective={"name": kind, **fields}, seed=seed, scale=noisy)
    return root
