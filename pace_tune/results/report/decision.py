"""What was confirmed on the test split, and what the theorems came to: read from the files that those commands leave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pace_tune.results.confirm_file import read_confirmation
from pace_tune.results.report.parts import Section, Table
from pace_tune.results.sweep_data import Sweep

VERDICTS = "verify.json"
_STYLES = {"better": "good", "worse": "bad", "holds": "good", "does not hold": "bad"}


def read_json(path: Path) -> Any:
    """Return a JSON file's value, None where there is none or it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def confirmation(sweep: Sweep) -> Section:
    """Return test scores per seed, means, and the winner against the others."""
    found = read_confirmation(sweep.folder)
    if found is None:
        return Section(
            anchor="confirmation", title="Confirmation", missing=f"`pace-tune confirm {sweep.name}` retrains the winner and scores it"
        )
    seeds = sorted({score["seed"] for score in found["scores"]})
    scores = Table(
        name=f"{sweep.name}-confirmation",
        title=f"{found['metric']} after retraining on train+val",
        columns={"recipe": "recipe", **{f"s{seed}": f"seed {seed}" for seed in seeds}, "mean": "mean ± 95 % interval"},
        rows=[_scores(found, recipe) for recipe in found["means"]],
        left=("recipe",),
    )
    against = Table(
        name=f"{sweep.name}-comparison",
        title="The winner against the others, paired over seeds",
        columns={"pair": "pair", "verdict": "verdict", "difference": "difference", "seeds": "seeds", "p": "p, paired t-test"},
        rows=[_comparison(one) for one in found["comparisons"]],
        note="Better or worse where the 95 % interval of the paired difference leaves out 0; otherwise it cannot be told.",
        left=("pair", "verdict"),
    )
    return Section(anchor="confirmation", title="Confirmation", parts=(scores, against))


def verdicts(sweep: Sweep) -> Section:
    """Return the verdict on each claim of the theory."""
    found = read_json(sweep.folder / VERDICTS)
    rows = found.get("rows", []) if isinstance(found, dict) else found
    if not rows:
        return Section(anchor="theory", title="The theorems, measured", missing=f"`pace-tune verify {sweep.name}` measures them")
    columns = {"claim": "claim", "verdict": "verdict", "number": "number", "interval": "95 % interval", "rule": "rule"}
    shown = [{**row, "interval": _span(row.get("interval")), "_class": _STYLES.get(str(row.get("verdict")), "open")} for row in rows]
    table = Table(name=f"{sweep.name}-theory", title="Verdicts", columns=columns, rows=shown, left=("claim", "verdict", "rule"))
    return Section(anchor="theory", title="The theorems, measured", parts=(table,))


def _scores(found: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    scores = [score for score in found["scores"] if score["recipe"] == recipe]
    cells = {f"s{score['seed']}": score["state"] if score["value"] is None else f"{score['value']:.4f}" for score in scores}
    return {"recipe": recipe, **cells, "mean": _interval(found["means"][recipe])}


def _comparison(one: Mapping[str, Any]) -> dict[str, Any]:
    pair, difference = f"{one['winner']} against {one['other']}", one["difference"]
    shown = _interval(difference, signed=True)
    return {
        "pair": pair,
        "verdict": one["verdict"],
        "difference": shown,
        "seeds": difference["count"],
        "p": one.get("p_value"),
        "_class": _STYLES.get(one["verdict"], "open"),
    }


def _interval(value: Mapping[str, Any], *, signed: bool = False) -> str:
    if value["mean"] is None:
        return ""
    mean = f"{value['mean']:+.4f}" if signed else f"{value['mean']:.4f}"
    return mean if value["half_width"] is None else f"{mean} ± {value['half_width']:.4f}"


def _span(interval: Any) -> str:
    if isinstance(interval, list | tuple) and len(interval) == 2 and None not in interval:
        return f"[{interval[0]:.3g}, {interval[1]:.3g}]"
    return str(interval) if interval else ""
