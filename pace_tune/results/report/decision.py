"""What was confirmed on the test split, and what the theorems came to: read from the files that those commands leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pace_tune.results.confirm_file import outdated, own_settings_text, read_confirmation
from pace_tune.results.majority import floor_text, score_floor
from pace_tune.results.report.parts import Kept, Section, Table
from pace_tune.results.sweep_data import Sweep
from pace_tune.results.verify import PICTURES, VERDICTS, verdict_text

_TITLES = {
    "curves": "Norms, distances and scores over training",
    "controls": "Against plain training, paired over seeds",
    "lambda_sweep": "Norms over λ",
    "generalisation": "The generalisation gap over each norm",
    "expansion": "The measured terms against their expansions",
    "distance": "The distance to the pretrained outputs",
    "calibration": "How much the probabilities are worth",
    "sharpness": "The training loss near the trained weights",
}
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
    floor = score_floor(sweep.folder)
    scores = Table(
        name=f"{sweep.name}-confirmation",
        title=f"{found['metric']} after retraining on train+val",
        columns={"recipe": "recipe", **{f"s{seed}": f"seed {seed}" for seed in seeds}, "mean": "mean ± 95 % interval"},
        rows=[_scores(found, recipe) for recipe in found["means"]],
        note=" ".join(filter(None, ("" if floor is None else floor_text(floor), own_settings_text(found.get("own_settings") or {})))),
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
    why = outdated(found, sweep=sweep.name, winner=sweep.ranked[0].lane) if sweep.ranked else ""
    lead = f"{why[0].upper()}{why[1:]}." if why else ""
    return Section(anchor="confirmation", title="Confirmation", lead=lead, parts=(scores, against))


def verdicts(sweep: Sweep) -> Section:
    """Return the verdict on each claim of the theory."""
    found = read_json(sweep.folder / VERDICTS)
    rows = found.get("rows", []) if isinstance(found, dict) else found
    if not rows:
        return Section(anchor="theory", title="The theorems, measured", missing=f"`pace-tune verify {sweep.name}` measures them")
    columns = {"says": "claim", "verdict": "verdict", "number": "number", "interval": "95 % interval", "count": "n", "rule": "rule"}
    rules = {rule: f"R{number}" for number, rule in enumerate(dict.fromkeys(row["rule"] for row in rows if row.get("rule")), start=1)}
    shown = [_verdict(row) | ({"rule": rules[row["rule"]]} if row.get("rule") else {}) for row in rows]
    filled = {key: heading for key, heading in columns.items() if any(row.get(key) is not None for row in rows)}
    note = " ".join(f"{name}: {rule}." for rule, name in rules.items())
    table = Table(name=f"{sweep.name}-theory", title="Verdicts", columns=filled, rows=shown, note=note, left=("says", "verdict", "rule"))
    counts = Counter(str(row.get("verdict")) for row in rows)
    lead = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) + "."
    return Section(anchor="theory", title="The theorems, measured", lead=lead, parts=(table, *_pictures(sweep, rows)))


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "verdict": verdict_text(row),
        "interval": _span(row.get("interval")),
        "_class": _STYLES.get(str(row.get("verdict")), "open"),
    }


def _pictures(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> Iterator[Kept]:
    """Yield the pictures that verdicts rest on, each with the claims that it shows."""
    claims: dict[str, list[str]] = {}
    for row in rows:
        claims.setdefault(str(row.get("plot") or ""), []).append(str(row["says"]))
    for plot, shown in claims.items():
        file = sweep.folder / PICTURES / f"{plot}.png"
        if plot and file.is_file():
            yield Kept(
                name=f"{sweep.name}-verify-{plot}",
                title=_TITLES.get(plot, plot.replace("_", " ")),
                reading=f"Shows whether {'; whether '.join(shown)}.",
                file=file,
            )


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
    """Return an interval; an end that too few runs leave open is infinite, and of two such ends nothing is known."""
    if interval in ([None, None], (None, None)):
        return ""
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return str(interval or "")
    ends = (("−∞", interval[0]), ("∞", interval[1]))
    return f"[{', '.join(open_end if end is None else f'{end:.3g}' for open_end, end in ends)}]"
