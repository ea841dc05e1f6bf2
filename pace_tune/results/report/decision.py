"""What was confirmed on the test split, and what the theorems came to: read from the files that those commands leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pace_tune.results.confirm_file import read_confirmation
from pace_tune.results.majority import majority_score, majority_text
from pace_tune.results.report.parts import Kept, Section, Table
from pace_tune.results.sweep_data import Sweep

VERDICTS, PICTURES = "verify.json", "verify"
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
    floor = majority_score(sweep.folder)
    scores = Table(
        name=f"{sweep.name}-confirmation",
        title=f"{found['metric']} after retraining on train+val",
        columns={"recipe": "recipe", **{f"s{seed}": f"seed {seed}" for seed in seeds}, "mean": "mean ± 95 % interval"},
        rows=[_scores(found, recipe) for recipe in found["means"]],
        note="" if floor is None else majority_text(floor),
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
    columns = {"claim": "claim", "says": "it says", "verdict": "verdict", "number": "number", "interval": "95 % interval"}
    columns |= {"count": "n", "rule": "rule"}
    shown = [{**row, "interval": _span(row.get("interval")), "_class": _STYLES.get(str(row.get("verdict")), "open")} for row in rows]
    filled = {key: heading for key, heading in columns.items() if any(row.get(key) is not None for row in rows)}
    table = Table(name=f"{sweep.name}-theory", title="Verdicts", columns=filled, rows=shown, left=("claim", "says", "verdict", "rule"))
    counts = Counter(str(row.get("verdict")) for row in rows)
    lead = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) + "."
    return Section(anchor="theory", title="The theorems, measured", lead=lead, parts=(table, *_pictures(sweep, rows)))


def _pictures(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> Iterator[Kept]:
    """Yield the pictures that verdicts rest on, each with the claims that it shows."""
    claims: dict[str, list[str]] = {}
    for row in rows:
        claims.setdefault(str(row.get("plot") or ""), []).append(str(row["claim"]))
    for plot, shown in claims.items():
        file = sweep.folder / PICTURES / f"{plot}.png"
        if plot and file.is_file():
            yield Kept(name=f"{sweep.name}-verify-{plot}", title=plot, reading=f"Shows {', '.join(shown)}.", file=file)


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
