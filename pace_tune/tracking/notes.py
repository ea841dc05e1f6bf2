"""The words in the dashboard: what an experiment, a sweep and a trial say of themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pace_tune.study.study_config import Study

EXPERIMENT = """Fine-tuning runs on one data set. A sweep is a run with its trials under it.

**Read it.** The table is sorted by the score that the sweep selects by. MLflow sorts by last values, and the last epoch's is what
decides: filter by `pace.state` for those that ran every epoch. `best/<metric>` selects nothing. Charts come in groups by the first
part of a metric's name; `measure/grad_norm` and `measure/fp_distance` are what PACE regularises. The report of a sweep is the
artifact `report.html` of its run.

| group | what it holds |
|---|---|
| `val` | validation metric and loss, after every epoch |
| `best` | the best validation metric so far, and its epoch |
| `train` | loss with its parts, under the objective's noise |
| `gap` | training against validation, both without noise; positive where training does better |
| `measure` | gradient and Jacobian norm, distance from the pretrained outputs, size of the delta, size of the logits |
| `speed` | samples a second, GPU memory |

**Find runs.** Filter by tags, for example:

    tags.`pace.kind` = 'trial' and tags.`pace.objective` = 'pace'
    tags.`pace.sweep` = '<sweep>' and tags.`pace.state` = 'finished'

`pace.state` is `finished`, `pruned` (stopped early), `diverged`, `out_of_memory` or `failed`; `pace.reason` says why.
"""
NOTE = "mlflow.note.content"
"""The tag that the dashboard shows as a description, in Markdown."""


KIND = "mlflow.experimentKind"
VIEW = "pace"
"""The name of the view of the runs table that comes with every experiment."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"


def experiment_tags(study: Study) -> dict[str, str]:
    """Return what an experiment says of itself: its description, its kind, and a view of its runs for this study's settings."""
    return {NOTE: EXPERIMENT, KIND: "custom_model_development", VIEW_TAG: json.dumps(_view(study))}


def view_path(experiment_id: str) -> str:
    """Return where the dashboard shows an experiment's runs in that view."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"


def _view(study: Study) -> dict[str, Any]:
    """Return the view: best runs first, with what one wants to know of each; the dashboard's own columns are empty for us."""
    name = study.metric.rpartition("/")[2]
    metrics = (f"best/{name}", study.metric, "val/loss", "gap/loss", "measure/grad_norm", "measure/fp_distance")
    columns = [*(f"metrics.`{key}`" for key in dict.fromkeys(metrics)), "tags.`pace.objective`", "tags.`pace.state`"]
    columns += [f"params.`{path}`" for path in study.space if path != "objective.name"]
    return {"orderByKey": f"metrics.`{study.metric}`", "orderByAsc": study.mode == "min", "selectedColumns": columns}


def sweep_note(study: Study) -> str:
    """Return what a sweep's run says: what is searched, and by what."""
    searched = "\n".join(f"| `{path}` | `{domain.as_mapping()}` |" for path, domain in study.space.items())
    best = f"Best by the last epoch's `{study.metric}` ({study.mode})."
    return f"Sweep **{study.name}**. {best} States are in the tag `pace.state`.\n\n| searched | in |\n|---|---|\n{searched}\n"


def trial_note(study: Study, flat: Mapping[str, Any]) -> str:
    """Return what a trial says: what was chosen for it."""
    chosen = {path: flat[path] for path in study.space if path in flat}
    lines = "\n".join(f"| `{path}` | {_short(value)} |" for path, value in chosen.items())
    return f"A trial of **{study.name}**.\n\n| chosen | |\n|---|---|\n{lines}\n"


def trial_name(study: Study, lane: str, flat: Mapping[str, Any]) -> str:
    """Return a trial's name in tables and legends: its sweep, its lane, its objective."""
    return f"{study.name}-{lane} {flat.get('objective.name', '')}".rstrip()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
