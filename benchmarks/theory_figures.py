"""Train the studies of search_spaces/theory on digits, rule on the theorems, and draw the figures: one command.

    python benchmarks/theory_figures.py --out theory-runs

Under 20 minutes on two cores with the packaged backbone. Runs that are finished are not trained again, so the command goes on
where it was stopped. Writes <out>/<study>/lanes/, <out>/figures/*.png, <out>/verdicts.json and <out>/verdicts.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parents[1] / "search_spaces" / "theory"
TRAINED = ("curves", "controls", "lambda_sweep", "views_interval", "sigma_lambda_2_shots", "sigma_lambda_8_shots")


def main() -> None:
    """Train, judge, draw."""
    options = _options()
    started = time.perf_counter()
    names = options.studies or TRAINED
    workers = [multiprocessing.get_context("spawn").Process(target=_train_share, args=(names, i, options)) for i in range(options.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed; the same command goes on with what is left.")
    print(f"trained in {time.perf_counter() - started:.0f} s", flush=True)
    _judge(options.out, threads=options.workers)
    print(f"done in {time.perf_counter() - started:.0f} s: {options.out / 'figures'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("theory-runs"))
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one thread and its share of the runs")
    parser.add_argument("--lanes", type=int, default=8, help="runs that a process trains together")
    parser.add_argument("--studies", nargs="*", help=f"some of: {', '.join(TRAINED)}")
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE", help="change every run, e.g. optim.epochs=4 seed=0")
    return parser.parse_args()


def _train_share(names: tuple[str, ...], share: int, options: argparse.Namespace) -> None:
    for name in names:
        runs = [run for i, run in enumerate(_runs(name, options.set)) if i % options.workers == share]
        started = time.perf_counter()
        _train(runs, storage=options.out / name / "lanes", lanes=options.lanes)
        print(f"{name}: {len(runs)} runs in {time.perf_counter() - started:.0f} s (process {share})", flush=True)


def _runs(name: str, settings: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (lane, run) for every point of a study's grid; each run once, whatever the settings make equal."""
    from pace_tune.study.study_config import Study
    from pace_tune.study.yaml_text import parse_yaml

    study = Study.load(STUDIES / f"{name}.yaml")
    changes = {path: parse_yaml(f"value: {value}")["value"] for path, _, value in (text.partition("=") for text in settings)}
    seen = []
    for i, point in enumerate(study.holes.grid()):
        mapping = study.run(point).with_values(changes).as_mapping()
        if mapping not in seen:
            seen.append(mapping)
            yield f"t{i:04d}", mapping


def _train(runs: list[tuple[str, dict[str, Any]]], *, storage: Path, lanes: int) -> None:
    from pace_tune.worker import Worker

    if not runs:
        return
    setup = {key: runs[0][1][key] for key in ("task", "backbone", "data")}
    worker = Worker(setup, storage=storage, threads=1)
    # Lanes of one objective share a population, so they go together.
    waiting = sorted(runs, key=lambda run: (run[1]["objective"]["name"], run[0]))
    while waiting:
        group, waiting = waiting[:lanes], waiting[lanes:]
        for lane, config in group:
            worker.open(lane, config)
        while reports := worker.advance():
            for report in reports:
                if report["state"] not in {"running", "finished"}:
                    print(f"{storage.parent.name}/{report['lane']}: {report['state']}, {report['reason']}", flush=True)


def _judge(out: Path, *, threads: int) -> None:
    import torch

    from pace_tune.theory.verify import figures, gather, verdicts

    torch.set_num_threads(threads)
    evidence = gather(out, progress=lambda text: print(text, flush=True))
    rows = verdicts(evidence)
    paths = figures(evidence, out / "figures")
    (out / "verdicts.json").write_text(json.dumps([row.as_row() for row in rows], indent=1, ensure_ascii=False), encoding="utf-8")
    (out / "verdicts.md").write_text(_table(rows), encoding="utf-8")
    for row in rows:
        print(row)
    for path in paths:
        print(path)


def _table(rows: list[Any]) -> str:
    lines = [
        "# The theorems on digits",
        "",
        "Written by `python benchmarks/theory_figures.py`. Effects are ratios, differences or correlations; `verdicts.json` has each row's",
        "rule. n counts seeds, runs or models. Figures are in `figures/`.",
        "",
        "| claim | verdict | effect | 95 % interval | n | figure |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.interval
        lines.append(f"| {row.says} | **{row.verdict}** | {row.number:.3g} | {low:.3g} … {high:.3g} | {row.count} | {row.plot} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
