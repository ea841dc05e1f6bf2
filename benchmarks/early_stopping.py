"""What early stopping saves and what it costs: the sweep's own rungs, replayed on curves of trials that all ran to their end.

    python benchmarks/early_stopping.py record search_spaces/digits.yaml --trials 40 --curves benchmarks/curves/digits.json
    python benchmarks/early_stopping.py reseed search_spaces/digits.yaml --curves benchmarks/curves/digits.json
    python benchmarks/early_stopping.py replay benchmarks/curves/*.json

`record` draws trials at random from a study, trains each to its end, and the best one again with other seeds. `replay` lets them
arrive in many orders, as many at once as the study has lanes, and prints the share of all epochs that was trained and how far the
best trial that was seen to its end lies below the best there was. The best of many trials was lucky too: `reseeded` is the mean of its
recipe under other seeds. `reseed` trains the recipes that the replayed sweeps call the best with the same other seeds; `winner_reseeded`
is their mean over the orders, and `winner_reaches` how often that of the winner lies at most a standard deviation below `reseeded`. `blind`
is how often a rule that stops as many trials without looking at them would have kept the best one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pace_tune.results.rank_correlation import rank_correlation
from pace_tune.search.early_stopping import Rungs
from pace_tune.study.study_config import Study

SHARED = ("task", "backbone", "data")
REFERENCES = 2
"""The defaults and the same without PACE: the sweep sees them to their end."""


@dataclass(frozen=True)
class Recorded:
    """Full curves of a study's trials.

    Args:
        study: Its name.
        grace_epochs: Its first rung.
        reduction: Of its early stopping.
        slots: How many trials it trains at once.
        sign: 1 where larger is better.
        curves: One value an epoch, per trial in the order of proposal.
        seeds: Final values of the best trial under other seeds.
        winners: The same of the trials that replayed sweeps call the best, by their number.
    """

    study: str
    grace_epochs: int
    reduction: float
    slots: int
    sign: float
    curves: tuple[tuple[float, ...], ...]
    seeds: tuple[float, ...]
    winners: Mapping[int, tuple[float, ...]]

    @classmethod
    def read(cls, path: Path) -> Recorded:
        """Read what `record` wrote."""
        kept = json.loads(path.read_text(encoding="utf-8"))
        winners = {int(number): tuple(values) for number, values in kept.get("winners", {}).items()}
        kept |= {"curves": tuple(map(tuple, kept["curves"])), "seeds": tuple(kept["seeds"]), "winners": winners}
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


def replayed(recorded: Recorded, order: Sequence[int]) -> tuple[int, int, int]:
    """Return what a sweep comes to whose trials arrive in an order.

    Returns:
        The epochs that it trains, the trial that it calls the best, and how many it sees to their end.
    """
    rungs, waiting, spent = recorded.rungs(), list(order), 0
    at: dict[int, int] = {}
    seen: list[int] = []
    while waiting or at:
        while waiting and len(at) < recorded.slots:
            at[waiting.pop(0)] = 0
        for trial in list(at):
            at[trial] += 1
            spent += 1
            stops = rungs.stops(trial, epoch=at[trial], value=recorded.curves[trial][at[trial] - 1]) and trial >= REFERENCES
            if at[trial] == recorded.epochs:
                seen.append(trial)
            if stops or at[trial] == recorded.epochs:
                del at[trial]
    return spent, max(seen, key=recorded.final), len(seen)


def orders(trials: int, *, count: int) -> Iterator[list[int]]:
    """Yield orders of arrival: the references first, then the others, which were drawn independently, shuffled."""
    for seed in range(count):
        rest = list(range(REFERENCES, trials))
        random.Random(seed).shuffle(rest)
        yield [*range(REFERENCES), *rest]


def replays(recorded: Recorded, *, count: int) -> list[tuple[int, int, int]]:
    """Return what `replayed` does for so many orders."""
    return [replayed(recorded, order) for order in orders(len(recorded.curves), count=count)]


def figures(recorded: Recorded, *, count: int) -> dict[str, Any]:
    """Return what early stopping saved and lost over many orders of arrival."""
    best = max(recorded.final(trial) for trial in range(len(recorded.curves)))
    whole, spread = recorded.epochs * len(recorded.curves), statistics.stdev(recorded.seeds)
    level = statistics.mean(recorded.sign * value for value in recorded.seeds)
    found = replays(recorded, count=count)
    shares, lost = sorted(spent / whole for spent, *_ in found), sorted(best - recorded.final(winner) for _, winner, _ in found)
    return {
        "trials": len(recorded.curves),
        "epochs": recorded.epochs,
        "share_of_epochs": statistics.median(shares),
        "share_90_percent": shares[int(0.9 * count)],
        "best": recorded.sign * best,
        "seed_spread": spread,
        "lost_median": statistics.median(lost),
        "lost_90_percent": lost[int(0.9 * count)],
        "within_spread": sum(loss <= spread + 1e-9 for loss in lost) / count,
        "reseeded": recorded.sign * level,
        **_winners_figures(recorded, [winner for _, winner, _ in found], level=level, spread=spread),
        "blind": statistics.mean(seen for *_, seen in found) / len(recorded.curves),
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


def record(study: Study, *, trials: int, seeds: int, lanes: int, known: Sequence[list[float]] = ()) -> dict[str, Any]:
    """Train trials of a study to their end, then the best one with other seeds; return what `Recorded` reads.

    The curves of the first trials may be known from a shorter recording of the same study.
    """
    from pace_tune.worker import Worker

    runs = list(_proposed(study, trials))
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker({key: runs[0][key] for key in SHARED}, storage=folder, threads=1)
        curves = [*known, *_curves(worker, runs[len(known) :], metric=study.metric, lanes=lanes)]
        sign = 1.0 if study.mode == "max" else -1.0
        best = max(range(trials), key=lambda trial: sign * curves[trial][-1])
        again = [{**runs[best], "seed": 1000 + seed} for seed in range(seeds)]
        finals = [curve[-1] for curve in _curves(worker, again, metric=study.metric, lanes=lanes, prefix="s")]
    kept = {"study": study.name, "grace_epochs": study.grace_epochs, "reduction": study.search.early_stopping.reduction, "sign": sign}
    slots = study.resources.workers * study.resources.lanes
    return {**kept, "slots": slots, "best_trial": best, "best_run": _recipe(runs[best]), "seeds": finals, "curves": curves}


def _recipe(run: Mapping[str, Any]) -> dict[str, Any]:
    return {section: run[section] for section in ("method", "objective", "optim")}


def reseed(study: Study, recorded: Recorded, *, count: int, lanes: int, best_trial: int, best_run: Any) -> dict[int, list[float]]:
    """Train the recipes that sweeps in so many orders call the best with the seeds of the best one; return their final values."""
    from pace_tune.worker import Worker

    winners = sorted({winner for _, winner, _ in replays(recorded, count=count)} - {best_trial})
    runs = list(_proposed(study, len(recorded.curves)))
    if _recipe(runs[best_trial]) != best_run:
        raise SystemExit("these curves are of another study, or of other settings: its best trial has another recipe")
    again = [{**runs[winner], "seed": 1000 + seed} for winner in winners for seed in range(len(recorded.seeds))]
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker({key: runs[0][key] for key in SHARED}, storage=folder, threads=1)
        finals = iter([curve[-1] for curve in _curves(worker, again, metric=study.metric, lanes=lanes)])
    return {best_trial: list(recorded.seeds), **{winner: [next(finals) for _ in recorded.seeds] for winner in winners}}


def _proposed(study: Study, trials: int) -> Iterator[dict[str, Any]]:
    from pace_tune.search.book import Book

    with tempfile.TemporaryDirectory() as folder:
        book = Book(study, url=f"sqlite:///{folder}/optuna.db")
        for _ in range(trials):
            entry = book.next()
            assert entry is not None
            yield dict(entry.run)


def _curves(worker: Any, runs: Sequence[Mapping[str, Any]], *, metric: str, lanes: int, prefix: str = "t") -> list[list[float]]:
    """Train runs to their end, so many together, and return a value of each an epoch; what diverged stays at its last finite one."""
    found: list[list[float]] = [[] for _ in runs]
    waiting, working = list(range(len(runs))), set[int]()
    while waiting or working:
        while waiting and len(working) < lanes:
            number = waiting.pop(0)
            worker.open(f"{prefix}{number:04d}", runs[number])
            working.add(number)
        for report in worker.advance():
            number = int(report["lane"][1:])
            found[number].append(round(report["metrics"].get(metric, found[number][-1] if found[number] else 0.0), 4))
            if report["state"] != "running":
                working.discard(number)
                found[number] += found[number][-1:] * (report["epochs"] - len(found[number]))
        print(f"{sum(map(len, found))} epochs, {len(waiting)} waiting", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Record, train winners again, or replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = argparse.ArgumentParser(add_help=False)
    training.add_argument("study", type=Path)
    training.add_argument("--curves", type=Path, required=True)
    training.add_argument("--lanes", type=int, default=8)
    training.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="over what the study says; JSON or text")
    recording = commands.add_parser("record", parents=[training])
    recording.add_argument("--trials", type=int, default=40)
    recording.add_argument("--seeds", type=int, default=5)
    recording.add_argument("--known", type=Path, help="a recording of the same study with fewer trials, which are not trained again")
    for name, parents in (("reseed", [training]), ("replay", [])):
        commands.add_parser(name, parents=parents).add_argument("--orders", type=int, default=200)
    commands.choices["replay"].add_argument("curves", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "replay":
        for path in options.curves:
            print(path.stem, json.dumps(figures(Recorded.read(path), count=options.orders), indent=1))
    elif options.command == "reseed":
        _reseed(options)
    else:
        _record(options)


def _record(options: argparse.Namespace) -> None:
    study = _study(options, trials=options.trials)
    known = json.loads(options.known.read_text(encoding="utf-8"))["curves"] if options.known else ()
    kept = record(study, trials=options.trials, seeds=options.seeds, lanes=options.lanes, known=known)
    _write(options.curves, {"date": f"{datetime.now(UTC):%Y-%m-%d}", "command": " ".join(sys.argv)} | kept)


def _reseed(options: argparse.Namespace) -> None:
    kept = json.loads(options.curves.read_text(encoding="utf-8"))
    recorded = Recorded.read(options.curves)
    study = _study(options, trials=len(recorded.curves))
    best = {key: kept[key] for key in ("best_trial", "best_run")}
    winners = reseed(study, recorded, count=options.orders, lanes=options.lanes, **best)
    about = {"reseed_date": f"{datetime.now(UTC):%Y-%m-%d}", "reseed_command": " ".join(sys.argv)}
    _write(options.curves, kept | about | {"winners": winners})


def _study(options: argparse.Namespace, *, trials: int) -> Study:
    settings = {"search.sampler": "random", "measure.every_epochs": 0, **dict(_setting(text) for text in options.set)}
    return Study.load(options.study, settings={**settings, "search.trials": trials})


def _write(path: Path, kept: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n  ".join(json.dumps(curve) for curve in kept.pop("curves"))
    path.write_text(json.dumps(kept)[:-1] + f',\n "curves": [\n  {rows}]}}\n', encoding="utf-8")


def _setting(text: str) -> tuple[str, Any]:
    path, _, value = text.partition("=")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


if __name__ == "__main__":
    main()
