"""What early stopping saves and what it costs: the sweep's own rungs, replayed on curves of trials that all ran to their end.

    python benchmarks/early_stopping.py record search_spaces/digits.yaml --trials 40 --curves benchmarks/curves/digits.json
    python benchmarks/early_stopping.py reseed search_spaces/digits.yaml --curves benchmarks/curves/digits.json
    python benchmarks/early_stopping.py replay benchmarks/curves/*.json

`record` draws trials at random from a study, trains each to its end, and the best one again with other seeds. `replay` lets them
arrive in many orders, as many at once as the study has lanes, and prints the share of all epochs that was trained and how far the
best trial that was seen to its end lies below the best there was. The best of many trials was lucky too: `reseeded` is the mean of its
recipe under other seeds. `reseed` trains the recipes that the replayed sweeps call the best with the same other seeds; `winner_reseeded`
is their mean over the orders, and `winner_reaches` how often that of the winner lies at most a standard deviation below `reseeded`. `blind`
is how often a rule that stops as many trials without looking at them would have kept the best one. `rungs_alone` is what the rungs would do
if the study's references, which a sweep sees to their end, and its warm start arrived and were judged like all others. `tied` is how often
several trials are equally good, so that which of them is called the best is chance; recordings with validation losses have few.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pace_tune.results.rank_correlation import rank_correlation
from pace_tune.search.early_stopping import Rungs
from pace_tune.study.study_config import Study

SHARED = ("task", "backbone", "data")


@dataclass(frozen=True)
class Recorded:
    """Full curves of a study's trials.

    Args:
        study: Its name.
        grace_epochs: Its first rung.
        reduction: Of its early stopping.
        slots: How many trials it trains at once.
        references: So many of the first trials are seen to their end.
        first: So many of the first trials come first in every sweep: the references and the warm start.
        sign: 1 where larger is better.
        curves: One value an epoch, per trial in the order of proposal.
        losses: Of equal values the one with the lower validation loss is the better; empty where they were not recorded.
        seeds: Final values of the best trial under other seeds.
        winners: The same of the trials that replayed sweeps call the best, by their number.
    """

    study: str
    grace_epochs: int
    reduction: float
    slots: int
    references: int
    first: int
    sign: float
    curves: tuple[tuple[float, ...], ...]
    losses: tuple[tuple[float, ...], ...]
    seeds: tuple[float, ...]
    winners: Mapping[int, tuple[float, ...]]

    @classmethod
    def read(cls, path: Path) -> Recorded:
        """Read what `record` wrote."""
        kept = json.loads(path.read_text(encoding="utf-8"))
        winners = {int(number): tuple(values) for number, values in kept.get("winners", {}).items()}
        kept |= {name: tuple(map(tuple, kept.get(name, ()))) for name in ("curves", "losses")}
        kept |= {"seeds": tuple(kept["seeds"]), "winners": winners}
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__})

    @property
    def epochs(self) -> int:
        """Of each trial."""
        return len(self.curves[0])

    def rungs(self) -> Rungs:
        """Return the rungs of a sweep of this study, with nothing on them yet."""
        return Rungs(grace_epochs=self.grace_epochs, reduction=self.reduction, max_epochs=self.epochs, sign=self.sign)

    def final(self, trial: int) -> float:
        """Return what a trial is worth, larger being better."""
        return self.sign * self.curves[trial][-1]

    def rank(self, trial: int) -> tuple[float, float]:
        """Return by what a sweep calls a trial the best, larger being better."""
        return self.final(trial), -self.losses[trial][-1] if self.losses else 0.0


def replayed(recorded: Recorded, order: Sequence[int]) -> tuple[int, int, list[int]]:
    """Return what a sweep comes to whose trials arrive in an order.

    Returns:
        The epochs that it trains, the trial that it calls the best (of equal ones the first to end), and those that it sees to their end.
    """
    rungs, waiting, spent = recorded.rungs(), list(order), 0
    age = {trial: place for place, trial in enumerate(order)}
    at: dict[int, int] = {}
    seen: list[int] = []
    while waiting or at:
        while waiting and len(at) < recorded.slots:
            at[waiting.pop(0)] = 0
        for trial in list(at):
            at[trial] += 1
            spent += 1
            stops = rungs.stops(age[trial], epoch=at[trial], value=recorded.curves[trial][at[trial] - 1]) and trial >= recorded.references
            if at[trial] == recorded.epochs:
                seen.append(trial)
            if stops or at[trial] == recorded.epochs:
                del at[trial]
    return spent, max(seen, key=recorded.rank), seen


def orders(trials: int, *, first: int, count: int) -> Iterator[list[int]]:
    """Yield orders of arrival: the first trials, then the others, which were drawn independently, shuffled."""
    for seed in range(count):
        rest = list(range(first, trials))
        random.Random(seed).shuffle(rest)
        yield [*range(first), *rest]


def replays(recorded: Recorded, *, count: int) -> list[tuple[int, int, list[int]]]:
    """Return what `replayed` does for so many orders."""
    return [replayed(recorded, order) for order in orders(len(recorded.curves), first=recorded.first, count=count)]


def figures(recorded: Recorded, *, count: int) -> dict[str, Any]:
    """Return what early stopping saved and lost over many orders of arrival."""
    best = max(recorded.final(trial) for trial in range(len(recorded.curves)))
    whole, spread = recorded.epochs * len(recorded.curves), statistics.stdev(recorded.seeds)
    level = statistics.mean(recorded.sign * value for value in recorded.seeds)
    found, alone = replays(recorded, count=count), replays(replace(recorded, references=0, first=0), count=count)
    shares, lost = sorted(spent / whole for spent, *_ in found), sorted(best - recorded.final(winner) for _, winner, _ in found)
    return {
        "trials": len(recorded.curves),
        "epochs": recorded.epochs,
        "share_of_epochs": statistics.median(shares),
        "share_90_percent": shares[int(0.9 * count)],
        "best": recorded.sign * best,
        "seed_spread": spread,
        "tied": sum(sum(recorded.rank(trial) == recorded.rank(winner) for trial in seen) > 1 for _, winner, seen in found) / count,
        "lost_median": statistics.median(lost),
        "lost_90_percent": lost[int(0.9 * count)],
        "within_spread": sum(loss <= spread + 1e-9 for loss in lost) / count,
        "reseeded": recorded.sign * level,
        **_winners_figures(recorded, [winner for _, winner, _ in found], level=level, spread=spread),
        "blind": statistics.mean(len(seen) for *_, seen in found) / len(recorded.curves),
        "rungs_alone": {
            "share_of_epochs": statistics.median(spent / whole for spent, *_ in alone),
            "lost_mean": round(best - statistics.mean(recorded.final(winner) for _, winner, _ in alone), 4),
            "within_spread": sum(best - recorded.final(winner) <= spread + 1e-9 for _, winner, _ in alone) / count,
        },
        "rungs": {epoch: round(_agreement(recorded, epoch), 3) for epoch in recorded.rungs().epochs},
    }


def _winners_figures(recorded: Recorded, winners: Sequence[int], *, level: float, spread: float) -> dict[str, float]:
    if not set(winners) <= set(recorded.winners):
        return {}
    levels = [statistics.mean(recorded.sign * value for value in recorded.winners[winner]) for winner in winners]
    return {
        "winner_reseeded": recorded.sign * statistics.mean(levels),
        "winner_reaches": statistics.mean(own >= level - spread - 1e-9 for own in levels),
    }


def _agreement(recorded: Recorded, epoch: int) -> float:
    return rank_correlation([curve[epoch - 1] for curve in recorded.curves], [curve[-1] for curve in recorded.curves], resamples=0).rho


def record(study: Study, *, trials: int, seeds: int, places: Places, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Train trials of a study to their end, then the best one with other seeds; return what `Recorded` reads.

    The curves of the first trials may be known from a shorter recording of the same study.
    """
    from pace_tune.search.proposals import first_points

    runs = list(_proposed(study, trials))
    if known and "losses" not in known:
        raise SystemExit("what is known was recorded without validation losses; record all of it again")
    curves = [*zip(known["curves"], known["losses"], strict=True)] if known else []
    curves += _curves(runs[len(curves) :], metric=study.metric, places=places)
    sign = 1.0 if study.mode == "max" else -1.0
    best = max(range(trials), key=lambda trial: (sign * curves[trial][0][-1], -curves[trial][1][-1]))
    again = [{**runs[best], "seed": 1000 + seed} for seed in range(seeds)]
    finals = [values[-1] for values, _ in _curves(again, metric=study.metric, places=places)]
    kept = {"study": study.name, "grace_epochs": study.grace_epochs, "reduction": study.search.early_stopping.reduction, "sign": sign}
    slots = study.resources.workers * study.resources.lanes
    kept |= {
        "slots": slots,
        "references": study.references,
        "first": len(list(first_points(study))),
        "best_trial": best,
        "best_run": _recipe(runs[best]),
        "seeds": finals,
    }
    return {**kept, "curves": [values for values, _ in curves], "losses": [losses for _, losses in curves]}


def _recipe(run: Mapping[str, Any]) -> dict[str, Any]:
    return {section: run[section] for section in ("method", "objective", "optim")}


def reseed(study: Study, recorded: Recorded, *, count: int, places: Places, best_trial: int, best_run: Any) -> dict[int, list[float]]:
    """Train the recipes that sweeps in so many orders call the best with the seeds of the best one; return their final values."""
    winners = sorted({winner for _, winner, _ in replays(recorded, count=count)} - {best_trial})
    runs = list(_proposed(study, len(recorded.curves)))
    if _recipe(runs[best_trial]) != best_run:
        raise SystemExit("these curves are of another study, or of other settings: its best trial has another recipe")
    again = [{**runs[winner], "seed": 1000 + seed} for winner in winners for seed in range(len(recorded.seeds))]
    finals = iter([values[-1] for values, _ in _curves(again, metric=study.metric, places=places)])
    return {best_trial: list(recorded.seeds), **{winner: [next(finals) for _ in recorded.seeds] for winner in winners}}


def _proposed(study: Study, trials: int) -> Iterator[dict[str, Any]]:
    from pace_tune.search.book import Book

    with tempfile.TemporaryDirectory() as folder:
        book = Book(study, url=f"sqlite:///{folder}/optuna.db")
        for _ in range(trials):
            entry = book.next()
            assert entry is not None
            yield dict(entry.run)


@dataclass(frozen=True)
class Places:
    """How many runs train together in a process of one thread, and how many such processes."""

    lanes: int
    processes: int


Curve = tuple[list[float], list[float]]
"""What is judged and the validation loss, one value an epoch."""


def _curves(runs: Sequence[Mapping[str, Any]], *, metric: str, places: Places) -> list[Curve]:
    shares = [runs[first :: places.processes] for first in range(places.processes)]
    with ProcessPoolExecutor(places.processes, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(_trained, metric=metric, lanes=places.lanes), shares))
    return [found[number % places.processes][number // places.processes] for number in range(len(runs))]


def _trained(runs: Sequence[Mapping[str, Any]], *, metric: str, lanes: int) -> list[Curve]:
    """Train runs to their end, so many together; what diverged stays at its last finite values."""
    from pace_tune.worker import Worker

    found: list[Curve] = [([], []) for _ in runs]
    waiting, working = list(range(len(runs))), set[int]()
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker({key: runs[0][key] for key in SHARED}, storage=folder, threads=1) if runs else None
        while worker and (waiting or working):
            while waiting and len(working) < lanes:
                number = waiting.pop(0)
                worker.open(f"t{number:04d}", runs[number])
                working.add(number)
            for report in worker.advance():
                number = int(report["lane"][1:])
                for values, name in zip(found[number], (metric, "val/loss"), strict=True):
                    values.append(round(report["metrics"].get(name, values[-1] if values else 0.0), 4))
                if report["state"] != "running":
                    working.discard(number)
                    for values in found[number]:
                        values.extend(values[-1:] * (report["epochs"] - len(values)))
            print(f"{sum(len(values) for values, _ in found)} epochs, {len(waiting)} waiting", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Record, train winners again, or replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = argparse.ArgumentParser(add_help=False)
    training.add_argument("study", type=Path)
    training.add_argument("--curves", type=Path, required=True)
    training.add_argument("--lanes", type=int, default=8, help="runs that a process trains together")
    training.add_argument("--processes", type=int, default=1, help="of one thread each")
    training.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="over what the study says; JSON or text")
    recording = commands.add_parser("record", parents=[training])
    recording.add_argument("--trials", type=int, default=40)
    recording.add_argument("--seeds", type=int, default=5)
    recording.add_argument("--known", type=Path, help="a recording of the same study with fewer trials, which are not trained again")
    for name, parents in (("reseed", [training]), ("replay", [])):
        commands.add_parser(name, parents=parents).add_argument("--orders", type=int, default=200)
    commands.choices["replay"].add_argument("curves", type=Path, nargs="+")
    commands.choices["replay"].add_argument("--grace-epochs", type=int, help="another first rung than that of the study")
    options = parser.parse_args()
    if options.command == "replay":
        for path in options.curves:
            recorded = Recorded.read(path)
            recorded = replace(recorded, grace_epochs=options.grace_epochs or recorded.grace_epochs)
            print(path.stem, json.dumps(figures(recorded, count=options.orders), indent=1))
    elif options.command == "reseed":
        _reseed(options)
    else:
        _record(options)


def _record(options: argparse.Namespace) -> None:
    study = _study(options, trials=options.trials)
    known = json.loads(options.known.read_text(encoding="utf-8")) if options.known else None
    places = Places(lanes=options.lanes, processes=options.processes)
    kept = record(study, trials=options.trials, seeds=options.seeds, places=places, known=known)
    _write(options.curves, {"date": f"{datetime.now(UTC):%Y-%m-%d}", "command": " ".join(sys.argv)} | kept)


def _reseed(options: argparse.Namespace) -> None:
    kept = json.loads(options.curves.read_text(encoding="utf-8"))
    recorded = Recorded.read(options.curves)
    study = _study(options, trials=len(recorded.curves))
    best = {key: kept[key] for key in ("best_trial", "best_run")}
    places = Places(lanes=options.lanes, processes=options.processes)
    winners = reseed(study, recorded, count=options.orders, places=places, **best)
    about = {"reseed_date": f"{datetime.now(UTC):%Y-%m-%d}", "reseed_command": " ".join(sys.argv)}
    _write(options.curves, kept | about | {"winners": winners})


def _study(options: argparse.Namespace, *, trials: int) -> Study:
    settings = {"search.sampler": "random", "measure.every_epochs": 0, **dict(_setting(text) for text in options.set)}
    return Study.load(options.study, settings={**settings, "search.trials": trials})


def _write(path: Path, kept: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {name: ",\n  ".join(json.dumps(curve) for curve in kept.pop(name)) for name in ("curves", "losses") if name in kept}
    text = "".join(f',\n "{name}": [\n  {lines}]' for name, lines in rows.items())
    path.write_text(json.dumps(kept)[:-1] + text + "}\n", encoding="utf-8")


def _setting(text: str) -> tuple[str, Any]:
    path, _, value = text.partition("=")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


if __name__ == "__main__":
    main()
