"""Train every method on digits, plain and with PACE, over seeds, and write the table: one command.

    python benchmarks/methods_table.py --out methods-runs

For each method and objective the learning rate is chosen by validation accuracy at seed 0; then every seed trains at it and is
scored once on the test split. PACE keeps its σ and λ, and every method its default sizes: nothing else is tuned. A method that is
done is not trained again, so the command goes on where it was stopped. Writes <out>/<method>.json, <out>/methods.json and
<out>/methods.md; benchmarks/methods/ holds the last two, and what they say.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

LEARNING_RATES = (4e-4, 2e-3, 1e-2, 5e-2)
SEEDS = (0, 1, 2, 3, 4)
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {"plain": {"name": "plain"}, "pace": {"name": "pace", "sigma": 1.0, "lambda": 0.5}}
COMMON: Mapping[str, Any] = {
    "task": {"name": "digits", "shots": 5, "val_per_class": 5},
    "backbone": "vit_nano_cifar10",
    "measure": {"every_epochs": 0},
}
OPTIM: Mapping[str, Any] = {"weight_decay": 1e-4, "epochs": 16, "warmup_epochs": 2, "batch_size": 16}
Row = dict[str, Any]


def main() -> None:
    """Train what is not there yet and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("methods-runs"))
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one thread and a method at a time")
    parser.add_argument("--methods", nargs="*", help="some of them; default all")
    options = parser.parse_args()
    names = tuple(options.methods or _own_first())
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(_row, names, [options.out] * len(names)))
    _write(rows, options.out)


def _own_first() -> list[str]:
    from pace_tune.registry import methods

    return sorted(methods.names(), key=lambda name: (name.startswith("peft:"), name))


def _row(method: str, out: Path) -> Row:
    """Return one method's scores, trained or read."""
    path = out / f"{method.replace(':', '_')}.json"
    if path.is_file():
        found: Row = json.loads(path.read_text())
        return found
    started = time.process_time()
    row = {"method": method, **_measured(method, out)}
    path.write_text(json.dumps(row, indent=1) + "\n")
    print(f"{method}: {row.get('refused') or row['plain']['test']} in {time.process_time() - started:.0f} s", flush=True)
    return row


def _measured(method: str, out: Path) -> Row:
    from pace_tune.errors import PaceTuneError

    storage = out / "lanes" / method.replace(":", "_")
    try:
        trials = {f"{name}-{lr:g}-0": _run(method, name, lr, seed=0) for name in OBJECTIVES for lr in LEARNING_RATES}
        val = _trained(trials, storage, split="val")
        chosen = {name: max(LEARNING_RATES, key=lambda lr, name=name: val[f"{name}-{lr:g}-0"]) for name in OBJECTIVES}
        # Those of seed 0 are trained already.
        runs = {f"{name}-{lr:g}-{seed}": _run(method, name, lr, seed=seed) for name, lr in chosen.items() for seed in SEEDS}
        test = _trained(runs, storage, split="test")
    except PaceTuneError as error:
        return {"refused": str(error)}
    scores = {name: {"lr": lr, "test": [round(test[f"{name}-{lr:g}-{seed}"], 4) for seed in SEEDS]} for name, lr in chosen.items()}
    return {"parameters": _parameters(method), **scores}


def _run(method: str, objective: str, lr: float, *, seed: int) -> Mapping[str, Any]:
    from pace_tune.study.run_config import RunConfig

    mapping = {**COMMON, "method": method, "objective": OBJECTIVES[objective], "optim": {**OPTIM, "lr": lr}, "seed": seed}
    return RunConfig.model_validate(mapping).as_mapping()


def _trained(runs: Mapping[str, Mapping[str, Any]], storage: Path, *, split: str) -> dict[str, float]:
    """Return each run's accuracy on a split; 0 where it diverged, as nothing came of it."""
    from pace_tune.results.local_runs import Place, train_runs

    place = Place(storage=str(storage), split=split, threads=1)
    return {name: end.scores["accuracy"] if end.scores else 0.0 for name, end in train_runs(runs, place=place, on_report=_quiet).items()}


def _quiet(_: Mapping[str, Any]) -> None:
    """Ignore a report."""


def _parameters(method: str) -> int | None:
    from pace_tune.methods.describe import describe

    count: int | None = describe("vit_nano_cifar10", num_classes=10, names=[method])[0]["parameters"]
    return count


def _write(rows: list[Row], out: Path) -> None:
    (out / "methods.json").write_text(json.dumps(rows, indent=1) + "\n")
    linear = next((row["plain"]["test"] for row in rows if row["method"] == "linear"), None)
    measured = sorted((row for row in rows if "plain" in row), key=lambda row: -max(fmean(row[name]["test"]) for name in OBJECTIVES))
    lines = [
        "| method | parameters | lr plain | lr PACE | plain | PACE | PACE − plain, paired | plain − linear, paired |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(row, linear) for row in measured),
        "",
        *(f"- `{row['method']}` is not defined here: {row['refused']}" for row in rows if "refused" in row),
    ]
    (out / "methods.md").write_text("\n".join(lines).rstrip() + "\n")
    print("\n".join(lines))


def _line(row: Row, linear: list[float] | None) -> str:
    plain, pace = row["plain"], row["pace"]
    count = "" if row["parameters"] is None else f"{row['parameters']:,}"
    cells = [
        f"`{row['method']}`",
        count,
        f"{plain['lr']:g}",
        f"{pace['lr']:g}",
        _percent(plain["test"]),
        _percent(pace["test"]),
        _difference(pace["test"], plain["test"]),
        _difference(plain["test"], linear) if linear else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _percent(values: list[float]) -> str:
    from pace_tune.results.intervals import mean_interval

    found = mean_interval([100 * value for value in values])
    return f"{found.mean:.1f} ± {found.half_width:.1f}"


def _difference(ours: list[float], theirs: list[float]) -> str:
    found = _percent([a - b for a, b in zip(ours, theirs, strict=True)])
    return found if found.startswith("-") else f"+{found}"


if __name__ == "__main__":
    main()
