"""List tasks, methods, objectives, backbones, samplers or studies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pace_tune import registry
from pace_tune.cli.options import json_option
from pace_tune.cli.output import console, print_json, print_table
from pace_tune.errors import ConfigError
from pace_tune.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {
    "tasks": registry.tasks,
    "methods": registry.methods,
    "objectives": registry.objectives,
    "backbones": registry.backbones,
    "samplers": registry.samplers,
}
KINDS = (*REGISTRIES, "studies")
SHIPPED = Path(__file__).parents[3] / "search_spaces"
"""The studies of a checkout."""


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where to look for studies.")
@click.option("--backbone", help="With `methods`: count each one's parameters on this backbone (loads torch).")
@json_option
def command(kind: str, folder: Path | None, backbone: str | None, as_json: bool) -> None:
    """Show everything of one KIND that a study can name."""
    if backbone is not None:
        _show_methods(kind, backbone, as_json=as_json)
        return
    rows = study_rows(folder or _study_folder()) if kind == "studies" else component_rows(REGISTRIES[kind])
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns=("name", "task", "backbone", "method", "objective", "trials", "summary", "mistake", "study"))


def _show_methods(kind: str, backbone: str, *, as_json: bool) -> None:
    from pace_tune.worker import describe_methods

    if kind != "methods":
        raise ConfigError(f"it goes with `ls methods`, not with `ls {kind}`.", path="--backbone")
    with console(stderr=True).status("methods") as status:
        rows = describe_methods(backbone, progress=status.update)
    if as_json:
        print_json(rows)
        return
    marks = {True: "yes", False: "no", None: ""}
    shown = [{**row, **{key: marks[row[key]] for key in ("merges", "identity_at_start", "lanes")}} for row in rows]
    print_table(shown, columns=("name", "parameters", "with_head", "merges", "identity_at_start", "lanes", "paper", "refused"))


def component_rows(components: Registry[Any]) -> list[dict[str, Any]]:
    """Return the name and the summary of every component of a kind; loads none of them."""
    return [{"name": name, "summary": components.summary(name)} for name in components.names()]


def study_rows(folder: Path) -> list[dict[str, Any]]:
    """Return one row per study file in a folder, unchecked: what it learns, and how."""
    return [_study_row(path) for path in sorted(folder.rglob("*.y*ml"))]


def _study_row(path: Path) -> dict[str, Any]:
    from pace_tune.study.paths import COMPONENTS, flatten
    from pace_tune.study.yaml_text import read_mapping

    row: dict[str, Any] = {"study": _short(path)}
    try:
        tree = read_mapping(path)
    except ConfigError as error:
        return {**row, "mistake": str(error)}
    flat = flatten(tree)
    search = tree.get("search")
    names = {kind: _names(flat.get(f"{kind}.name")) for kind in COMPONENTS}
    return {**row, **names, "trials": search.get("trials") if isinstance(search, dict) else None}


def _names(value: Any) -> str:
    return ", ".join(map(str, value.get("choice", []))) if isinstance(value, dict) else str(value or "")


def _study_folder() -> Path:
    here = Path("search_spaces")
    return here if here.is_dir() else SHIPPED


def _short(path: Path) -> str:
    """Return the path as seen from here, or from the root where that is shorter."""
    return min(os.path.relpath(path), str(path.absolute()), key=len)
