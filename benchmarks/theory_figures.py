"""Train the studies of search_spaces/theory, rule on the theorems, and draw the figures: one command.

    python benchmarks/theory_figures.py --out theory-runs
    python benchmarks/theory_figures.py --out cifar-runs --task vtab/cifar --data-root DATA --seeds 0 1 2

The studies are on digits; what they become on another task is in theory/sizes.yaml. On two cores that do nothing else this is
under 20 minutes for digits and under 40 for vtab/cifar, with the packaged backbone. Runs that are finished are not trained
again, so the command goes on where it was stopped. Writes <out>/<study>/lanes/, <out>/figures/*.png, <out>/verdicts.json and
<out>/verdicts.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pace_tune.study.study_config import Study

STUDIES = Path(__file__).parents[1] / "search_spaces" / "theory"
SIZES = Path(__file__).parent / "theory" / "sizes.yaml"
TRAINED = ("curves", "controls", "lambda_sweep", "views_interval", "sigma_lambda_2_shots", "sigma_lambda_8_shots")


def main() -> None:
    """Train, judge, draw."""
    options = _options()
    started = time.perf_counter()
    workers = [multiprocessing.get_context("spawn").Process(target=_train_share, args=(i, options)) for i in range(options.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed; the same command goes on with what is left.")
    print(f"trained in {time.perf_counter() - started:.0f} s", flush=True)
    _judge(options)
    print(f"done in {time.perf_counter() - started:.0f} s: {options.out / 'figures'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("theory-runs"))
    parser.add_argument("--task", default="digits", help="digits, or a task of theory/sizes.yaml")
    parser.add_argument("--data-root", type=Path, help="folder with data sets, for tasks that do not carry their own")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the studies' own")
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one thread and its share of the runs")
    parser.add_argument("--lanes", type=int, default=8, help="runs that a process trains together")
    parser.add_argument("--models", type=int, default=20, help="finished models to open for the claims about models; 0 leaves those out")
    parser.add_argument("--studies", nargs="*", default=TRAINED, choices=TRAINED, metavar="STUDY", help=f"some of: {', '.join(TRAINED)}")
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE", help="change every run, e.g. optim.epochs=4 seed=0")
    return parser.parse_args()


def _train_share(share: int, options: argparse.Namespace) -> None:
    for name, runs in _plan(options).items():
        mine = [run for i, run in enumerate(runs) if i % options.workers == share]
        started = time.perf_counter()
        _train(mine, storage=options.out / name / "lanes", lanes=options.lanes)
        print(f"{name}: {len(mine)} runs in {time.perf_counter() - started:.0f} s (process {share})", flush=True)


def _plan(options: argparse.Namespace) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return study -> (lane, run) of every point of its grid.

    A run that several studies share is trained once, in the first of them, which measures it at least as often.
    """
    from pace_tune.study.paths import parse_settings

    changes, seen = parse_settings(options.set), []
    plan: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name in options.studies:
        study = _study(name, options)
        plan[name] = []
        for i, point in enumerate(study.holes.grid()):
            run = study.run(point).with_values(changes).as_mapping()
            trained = {key: value for key, value in run.items() if key != "measure"}
            if trained not in seen:
                seen.append(trained)
                plan[name].append((f"t{i:04d}", run))
    return plan


def _study(name: str, options: argparse.Namespace) -> Study:
    from pace_tune.study.study_config import Study
    from pace_tune.study.yaml_text import read_mapping

    settings: dict[str, Any] = {}
    if options.task != "digits":
        sizes = read_mapping(SIZES)[options.task]
        settings = {"task": options.task, "data.root": str(options.data_root), **sizes["every"], **sizes.get(name, {})}
    if options.seeds:
        settings["seed"] = {"choice": options.seeds}
    return Study.load(STUDIES / f"{name}.yaml", settings=settings)


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


def _judge(options: argparse.Namespace) -> None:
    import torch

    from pace_tune.theory.verify import figures, gather, verdicts

    torch.set_num_threads(options.workers)
    out = options.out
    evidence = gather(out, models=options.models, progress=lambda text: print(text, flush=True))
    rows = verdicts(evidence)
    paths = figures(evidence, out / "figures")
    (out / "verdicts.json").write_text(json.dumps([row.as_row() for row in rows], indent=1, ensure_ascii=False), encoding="utf-8")
    (out / "verdicts.md").write_text(_table(rows, options.task), encoding="utf-8")
    for row in rows:
        print(row)
    for path in paths:
        print(path)


def _table(rows: list[Any], task: str) -> str:
    command = "python benchmarks/theory_figures.py" + (f" --task {task} ..." if task != "digits" else "")
    lines = [
        f"# The theorems on {task}",
        "",
        f"Written by `{command}`. Effects are ratios, differences or correlations; `verdicts.json` has each row's",
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
