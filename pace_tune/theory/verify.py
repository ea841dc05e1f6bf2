"""The theorems against measurements: from folders of finished runs to a verdict per claim and the pictures they rest on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from pace_tune.errors import UnsupportedError
from pace_tune.theory.checkpoint import Expansion, Opener, Reading, read_checkpoint, read_sharpness
from pace_tune.theory.checkpoint_claims import checkpoint_claims
from pace_tune.theory.figures import draw
from pace_tune.theory.kept import kept
from pace_tune.theory.runs import Run, main_context, measured_runs, read_runs, representatives
from pace_tune.theory.sharpness import Sharpness
from pace_tune.theory.sweep_claims import sweep_claims
from pace_tune.theory.training_claims import training_claims
from pace_tune.theory.verdict import Verdict
from pace_tune.wording import counted, time_left

READING = tuple[float, tuple[Expansion, ...], float, float, float]
SHARPNESS = tuple[Sharpness, float]
MODELS = 20
"""Checkpoints that are opened, at most; the histories of all runs are read."""


@dataclass(frozen=True)
class Evidence:
    """Everything that verdicts and figures are made of."""

    runs: tuple[Run, ...]
    readings: tuple[Reading, ...]
    sharpness: tuple[tuple[Run, Sharpness, float], ...]


def gather(*paths: Path, models: int = MODELS, device: str = "cpu", progress: Callable[[str], None] = lambda _: None) -> Evidence:
    """Read the finished runs below some folders, and measure some of their checkpoints.

    Args:
        paths: Lanes, sweeps, or folders of sweeps.
        models: Checkpoints to open, spread over the kinds of objective; 0 reads histories alone.
        progress: Is told what is being done.

    Raises:
        DataError: There is no finished run, or a checkpoint is damaged.
    """
    runs = read_runs(*map(Path, paths))
    others = len(runs) - len(measured_runs(runs))
    if others:
        progress(
            f"{counted(others, 'run')} of {len(runs)}, such as those of `confirm`, measured nothing: claims about training leave them out"
        )
    opener = Opener(device=device)
    readings, sharp, seen = [], [], set()
    began = time.monotonic()
    chosen = _spread(runs, models)
    if chosen:
        progress(f"{counted(len(chosen), 'model')} to measure, where that was not done before; `--models` takes fewer, 0 none")
    for i, run in enumerate(chosen):
        left = f", {time_left((time.monotonic() - began) / i * (len(chosen) - i))}" if i else ""
        progress(f"model {i + 1} of {len(chosen)}: {run.kind}, seed {run.seed}{left}")
        try:
            reading, point = _measured(run, opener, sharp=run.kind not in seen)
            readings.append(reading)
            if point is not None:
                sharp.append((run, *point))
                seen.add(run.kind)
        except UnsupportedError as error:
            progress(f"left out: {error}")
    return Evidence(tuple(runs), tuple(readings), tuple(sharp))


def _measured(run: Run, opener: Opener, *, sharp: bool) -> tuple[Reading, tuple[Sharpness, float] | None]:
    opened = cache(partial(opener.open, run))  # only where something was not measured before
    reading = Reading(run, *kept(run, "reading", READING, lambda: read_checkpoint(opened())))
    return reading, kept(run, "sharpness", SHARPNESS, lambda: read_sharpness(opened())) if sharp else None


def verdicts(evidence: Evidence) -> list[Verdict]:
    """Rule on every claim that the evidence has something to say about.

    Where it is a single run, claims that compare runs are left out, and claims about models rest on that one. Claims about training
    rest on the runs that were measured then, if any were; those about which none of them says anything are left out.
    """
    runs = measured_runs(evidence.runs)
    found = [claim for claim in (*training_claims(runs), *sweep_claims(runs)) if claim.count]
    if evidence.readings:
        found += checkpoint_claims(evidence.readings, [(point, reached) for _, point, reached in evidence.sharpness])
    return sorted(found, key=lambda verdict: verdict.claim)


def verify(*paths: Path, models: int = MODELS, device: str = "cpu") -> list[Verdict]:
    """Return a verdict per claim for the finished runs below some folders.

    Example:
        ``for verdict in verify(Path("pace-runs/digits")): print(verdict)``
    """
    return verdicts(gather(*paths, models=models, device=device))


def figures(evidence: Evidence, folder: Path) -> list[Path]:
    """Draw every figure that the evidence allows into a folder, and return their paths.

    `Verdict.plot` is the stem of the one it rests on.
    """
    return draw(measured_runs(evidence.runs), evidence.readings, evidence.sharpness, folder=folder)


def _spread(runs: Sequence[Run], models: int) -> list[Run]:
    """Return up to so many runs: kinds in turn, seed by seed, in their representative settings; then others."""
    chosen = representatives(main_context(runs))
    by_kind = [[seeds[seed] for seed in sorted(seeds)] for seeds in chosen.values()]
    taken = [kind[i] for i in range(max(map(len, by_kind))) for kind in by_kind if i < len(kind)]
    rest = _rest(runs, taken)
    return [*taken, *rest][:models]


def _rest(runs: Iterable[Run], taken: Sequence[Run]) -> list[Run]:
    known = {run.folder for run in taken}
    return [run for run in runs if run.folder not in known and run.problem == taken[0].problem]
