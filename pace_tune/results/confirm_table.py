"""A confirmation for the terminal: every score, the means, and the verdict in words."""

from __future__ import annotations

from collections.abc import Collection

from rich.table import Table
from rich.text import Text

from pace_tune.results.confirm import Comparison, Confirmation
from pace_tune.results.confirm_file import own_settings_text
from pace_tune.results.majority import Floor, floor_text
from pace_tune.results.shown import Shown
from pace_tune.wording import counted

_COLOURS = {"better": "bold green", "worse": "bold red", "cannot tell": "bold yellow"}


def announcement(sweep: str, recipes: Collection[str], *, seeds: int) -> str:
    """Return what is about to be trained, and how much so few seeds can say.

    Example:
        >>> announcement("digits", ["pace", "plain"], seeds=3)
        'digits: 2 recipes (pace, plain) x 3 seeds = 6 runs on train+val'
    """
    runs = len(recipes) * seeds
    product = f"{counted(len(recipes), 'recipe')} ({', '.join(recipes)}) x {counted(seeds, 'seed')}"
    text = f"{sweep}: {product} = {counted(runs, 'run')} on train+val"
    if seeds == 2:
        text += "; two seeds give hardly an interval (12.7 standard errors to each side), take three or more"
    return text


def confirmation_view(confirmation: Confirmation, *, floor: Floor | None = None) -> Shown:
    """Return the scores as a table, a column per seed, with one line per comparison under it, and the floor where it is known."""
    seeds = sorted({score.seed for score in confirmation.scores})
    title = f"{confirmation.task}: {confirmation.metric} after retraining on train+val"
    table = Table("recipe", *(f"seed {seed}" for seed in seeds), "mean ± 95 % interval", title=title, title_justify="left")
    for recipe, mean in confirmation.means.items():
        shown = {s.seed: s.state if s.value is None else f"{s.value:.4f}" for s in confirmation.scores if s.recipe == recipe}
        table.add_row(recipe, *(shown.get(seed, "") for seed in seeds), str(mean))
    lines = [Text(verdict_text(comparison), style=_COLOURS[comparison.verdict]) for comparison in confirmation.comparisons]
    broken = [Text(f"{s.recipe} seed {s.seed} {s.state}: {s.reason}", style="red") for s in confirmation.scores if s.value is None]
    known = [] if floor is None else [Text(floor_text(floor))]
    if confirmation.own_settings:
        known.append(Text(own_settings_text(confirmation.own_settings)))
    return Shown(table, *known, *lines, *broken)


def verdict_text(comparison: Comparison) -> str:
    """Return a comparison as one sentence."""
    pair, difference = f"{comparison.winner} against {comparison.other}", comparison.difference
    if difference.count < 2:
        return f"{pair}: cannot tell, {difference.count} seed was scored in both; at least 2 are needed."
    paired = f"paired difference {difference.mean:+.4f} ± {difference.half_width:.4f} over {difference.count} seeds"
    return f"{pair}: {comparison.verdict}, {paired}, p {comparison.p_value:.2g}."
