"""Check a study file and show what it searches."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pace_tune.cli.options import json_option, same_study, settings_option
from pace_tune.cli.output import begin, console, print_json, print_table, show
from pace_tune.errors import ConfigError, DataError, MistakesError, PaceTuneError
from pace_tune.study.domains import ChoiceDomain, DigitsDomain, Domain, IntDomain
from pace_tune.study.missing import missing_here, missing_weights
from pace_tune.study.run_config import RunConfig
from pace_tune.study.study_config import Study

SHOWN = 12
"""Classes that are named."""


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--data", "with_data", is_flag=True, help="Read all of the task's data too, look for the weights, and list everything that is wrong."
)
@settings_option
@json_option
def command(study: Path, settings: dict[str, Any], as_json: bool, with_data: bool) -> int:
    """Check STUDY, a file, and show what it searches.

    Every mistake is one line: where, the rule, the value. The exit status is 2 if there is one.
    """
    try:
        checked = Study.load(study, settings=settings)
        data = _check_data(checked, as_json=as_json) if with_data else {}
    except ConfigError as error:
        if not as_json:
            raise
        held = {"classes": error.classes, "remarks": error.remarks} if isinstance(error, WrongDataError) else {}
        print_json({"valid": False, "mistakes": [str(mistake) for mistake in getattr(error, "mistakes", [error])], **held})
        return 2
    if as_json:
        print_json(facts(checked) | (_held_facts(data) if with_data else {}))
    else:
        _print(checked, study, data=data)
        console().print(f"\nsweep     pace-tune sweep {same_study(study, None)}", markup=False, soft_wrap=True)
    return 0


@dataclass(frozen=True)
class Held:
    """What a task's data holds.

    Args:
        counts: Number of classes, and of examples a split.
        classes: Examples of each class, by split; empty where there are no classes.
        remarks: What one may not expect.
    """

    counts: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    remarks: Sequence[str]


class WrongDataError(MistakesError):
    """A task's data or weights are wrong.

    Attributes:
        classes: Task -> split -> examples of each class among what can be read.
        remarks: Task -> lines on classes of few examples among it.
    """

    def __init__(self, mistakes: Iterable[PaceTuneError], *, runs: Iterable[RunConfig]) -> None:
        from pace_tune.worker import class_counts

        super().__init__(mistakes)
        self.classes: dict[str, Mapping[str, Mapping[str, int]]] = {}
        self.remarks: dict[str, Sequence[str]] = {}
        for run in runs:
            with contextlib.suppress(DataError):
                self.classes[run.task.name] = class_counts(run.task, run.data.root)
                self.remarks[run.task.name] = run.task.early_remarks(root=run.data.root)


def _check_data(study: Study, *, as_json: bool) -> dict[str, Held]:
    """Refuse a study whose data or weights are wrong, with a line for all that is; else return what each task's data holds."""
    from pace_tune.worker import check_data, class_counts, data_facts

    progress = None if as_json or not console(stderr=True).is_terminal else begin
    runs = study.runs_by_task()
    wrong: list[PaceTuneError] = [DataError(line) for run in runs for line in check_data(run.task, run.data.root, progress=progress)]
    wrong += missing_weights(study.run({}))
    if wrong:
        error = WrongDataError(wrong, runs=runs)
        if not as_json:
            _print_readable(error)
        raise error
    return {
        run.task.name: Held(
            data_facts(run.task, run.data.root), class_counts(run.task, run.data.root), run.task.remarks(root=run.data.root)
        )
        for run in runs
    }


def _print_readable(error: WrongDataError) -> None:
    for task, counts in error.classes.items():
        for line in (*_class_lines(counts), *error.remarks.get(task, ())):
            console().print(f"{f'{task}: ' if len(error.classes) > 1 else ''}{line}", markup=False, soft_wrap=True)


def _held_facts(data: Mapping[str, Held]) -> dict[str, Any]:
    return {
        "data": {task: held.counts for task, held in data.items()},
        "classes": {task: held.classes for task, held in data.items()},
        "remarks": {task: held.remarks for task, held in data.items()},
    }


def facts(study: Study) -> dict[str, Any]:
    """Return what a study will do, in plain values."""
    return {
        "valid": True,
        "name": study.name,
        **{f"{section}s": list(study.holes.names(section)) for section in ("task", "backbone", "method", "objective")},
        "space": {path: domain.as_mapping() for path, domain in study.space.items()},
        "points": study.holes.size(),
        "first_points": study.first_points(),
        "metric": study.metric,
        "mode": study.mode,
        "search": study.search.model_dump(mode="json"),
        "grace_epochs": study.grace_epochs,
        "max_epochs": study.max_epochs,
        "lanes": "auto" if study.resources.lanes == "auto" else study.resources.workers * study.resources.lanes,
        "notes": list(study.notes),
        "missing_here": list(map(str, missing_here(study.run({})))),
        "folder": str(study.folder),
        "tracking_uri": study.tracking_uri,
    }


def _print(study: Study, path: Path, *, data: Mapping[str, Held]) -> None:
    known = facts(study)
    out = console()
    out.print(f"[bold green]✓[/] {path} is right.", soft_wrap=True)
    for label in ("task", "backbone", "method", "objective"):
        out.print(f"  {label:<10}{', '.join(known[f'{label}s'])}", markup=False)
    for task, held in data.items():
        counts = ", ".join(f"{count:,} {what}" for what, count in held.counts.items())
        out.print(f"  {'data':<10}{f'{task}: ' if len(data) > 1 else ''}{counts}", markup=False)
        for remark in (*_class_lines(held.classes), *held.remarks):
            out.print(f"  {'':<10}{remark}", markup=False, soft_wrap=True)
    search = study.search
    budget = [f"{search.trials} trials"] * (search.trials is not None) + [f"{show(search.time_budget_s)} s"] * (
        search.time_budget_s is not None
    )
    out.print(f"  {'search':<10}{search.sampler_name}, {' or '.join(budget)}, {study.mode} of {study.metric}", markup=False)
    out.print(f"  {'stopping':<10}{_stopping(study)}", markup=False)
    out.print(f"  {'folder':<10}{study.folder}\n", markup=False, soft_wrap=True)
    default = study.defaults()
    rows = ({"searched": path, "domain": describe(domain), "default": default.get(path)} for path, domain in study.space.items())
    print_table(rows, columns=("searched", "domain", "default"))
    if study.notes:
        out.print(f"\nWhat the published protocol of {known['tasks'][0]} leaves open, and where this departs from it:")
    for note in study.notes:
        out.print(f"  - {note}", markup=False, soft_wrap=True)
    for line in [] if data else known["missing_here"]:
        out.print(f"\nNot on this machine: {line}", markup=False, soft_wrap=True)


def _class_lines(classes: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield the classes with their examples in all, and what one gets for always naming the largest."""
    totals: Counter[str] = Counter()
    for counts in classes.values():
        totals.update(counts)
    if totals:
        shown = [f"{name} {count:,}" for name, count in totals.most_common(SHOWN)]
        yield ", ".join(shown) + (f" and {len(totals) - SHOWN:,} more" if len(totals) > SHOWN else "")
    if val := classes.get("val"):
        name, count = max(val.items(), key=lambda pair: pair[1])
        yield f"always saying {name!r}: accuracy {count / sum(val.values()):.4f} on val"


def _stopping(study: Study) -> str:
    stopping = study.search.early_stopping
    if stopping.name == "none":
        return f"none: every trial runs its {study.max_epochs} epochs"
    return f"{stopping.name} from epoch {study.grace_epochs} of {study.max_epochs}, one of {show(stopping.reduction)} goes on"


def describe(domain: Domain) -> str:
    """Return a domain as people read it."""
    if isinstance(domain, DigitsDomain):
        return f"a way through {len(domain.sizes)} choices of {min(domain.sizes)} to {max(domain.sizes)} options"
    if isinstance(domain, ChoiceDomain):
        return ", ".join(map(str, domain.choices))
    step = f" in steps of {domain.step}" if isinstance(domain, IntDomain) and domain.step != 1 else ""
    return f"{show(domain.low)} to {show(domain.high)}{step}{', log scale' if domain.log else ''}"
