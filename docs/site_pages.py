"""Pages of the reference that are made when the site is built: commands from their help, settings from the study's schema."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pace_tune.study.run_config import REGISTRIES

ROOT = Path(__file__).parents[1]
SECTIONS = ("task", "backbone", "method", "objective")
FROM_DOCSTRINGS = ("task", "backbone")
"""Whose fields the schema does not describe; their classes load without PyTorch."""
WIDTH = 100
STUDY = """# Study file

A study is a run with holes: any value of a run may be a domain. The same facts, for editors, are in
[study.schema.json](../study.schema.json); put `# yaml-language-server: $schema=...` on top of a study.

| domain | means |
|---|---|
| `{float: [low, high]}` | a number; `log: true` searches its order of magnitude |
| `{int: [low, high]}` | a whole number; `step: 2` takes every second |
| `{choice: [a, b, c]}` | one of a list |"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages (a hook of MkDocs)."""
    schema = json.loads((ROOT / "docs" / "study.schema.json").read_text(encoding="utf-8"))
    pages = {"commands": commands_page(), "study": study_page(schema), "components": components_page(schema)}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    # One text on clusters: that of the folder with their files.
    files.append(File.generated(config, "how-to/cluster.md", content=(ROOT / "cluster" / "README.md").read_text(encoding="utf-8")))
    return files


def commands_page() -> str:
    """Return every command with its help."""
    from pace_tune.cli.main import group

    context = click.Context(group, info_name="pace-tune")
    parts = ["# Commands\n\nExit status: 0 done, 1 it ran and did not end well, 2 your mistake, 130 interrupted."]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=f"pace-tune {name}", terminal_width=WIDTH, max_content_width=WIDTH)
        parts.append(f"## {name}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join(parts) + "\n"


def study_page(schema: Mapping[str, Any]) -> str:
    """Return the sections of a study file, a table each; a section in a section has its own."""
    found = {name: field for name, field in schema["properties"].items() if name not in SECTIONS}
    sections = dict(_sections(found, schema["$defs"]))
    leaves = {name: field for name, field in found.items() if name not in sections}
    parts = [STUDY, f"## At the top\n\n{fields_table(leaves)}\n\n`task`, `backbone`, `method`, `objective`: [components](components.md)."]
    for path, fields in sections.items():
        shown = {
            name: {"description": "A section, below.", **field} if f"{path}.{name}" in sections else field for name, field in fields.items()
        }
        parts.append(f"## {path}\n\n{fields_table(shown)}")
    return "\n\n".join(parts) + "\n"


def _sections(fields: Mapping[str, Any], definitions: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dotted path and the fields of each section among fields, and of those in it; domains and components are none."""
    for name, field in fields.items():
        options = [option for option in field.get("anyOf", [field]) if "_domain" not in option.get("$ref", "")]
        resolved = [definitions[option["$ref"].rpartition("/")[2]] if "$ref" in option else option for option in options]
        for option in resolved:
            inner = option.get("properties", {})
            if inner and "const" not in inner.get("name", {}):
                yield above + name, inner
                yield from _sections(inner, definitions, above=f"{above}{name}.")


def components_page(schema: Mapping[str, Any]) -> str:
    """Return every task, backbone, method and objective with its settings."""
    parts = ["# Tasks, backbones, methods, objectives\n\nA study names one of each; a bare name takes the defaults."]
    for section in SECTIONS:
        parts.append(f"## {section}")
        for names, found in grouped(schema["properties"][section]).items():
            title = ", ".join(f"`{name}`" for name in names)
            fields = described(found["fields"], REGISTRIES[section].get(names[0]) if section in FROM_DOCSTRINGS else None)
            parts.append(f"**{title}**: {found['description']}\n\n{fields_table(fields)}".rstrip())
    return "\n\n".join(parts) + "\n"


def described(fields: Mapping[str, Any], cls: type | None) -> dict[str, Any]:
    """Return fields with what the docstrings of a class and its bases say of them."""
    said: dict[str, str] = {}
    for base in reversed(cls.__mro__ if cls else ()):
        said |= arguments(inspect.getdoc(base) or "")
    return {name: {**({"description": said[name]} if name in said else {}), **found} for name, found in fields.items()}


def arguments(docstring: str) -> dict[str, str]:
    """Return name -> text of a docstring's `Args`."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", docstring, flags=re.MULTILINE)
    found = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


def grouped(section: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the members of a section by their names; those of one class and the same fields together."""
    groups: dict[str, list[str]] = {}
    for option in section["anyOf"]:
        properties = option.get("properties", {})
        if "const" not in properties.get("name", {}):
            continue
        fields = {key: value for key, value in properties.items() if key != "name"}
        key = json.dumps({"description": option.get("description", ""), "fields": fields})
        groups.setdefault(key, []).append(properties["name"]["const"])
    return {tuple(names): json.loads(key) for key, names in groups.items()}


def fields_table(fields: Mapping[str, Any]) -> str:
    """Return one row a field: what it takes, its default, what it means."""
    if not fields:
        return ""
    rows = [f"| `{name}` | {kinds(found)} | {default(found)} | {cell(found.get('description', ''))} |" for name, found in fields.items()]
    return "\n".join(["| field | takes | default | what it is |", "|---|---|---|---|", *rows])


def kinds(found: Mapping[str, Any]) -> str:
    """Return what a field takes, in words; domains are said once for all fields."""
    options = [option for option in found.get("anyOf", [found]) if "_domain" not in option.get("$ref", "")]
    return cell(" or ".join(dict.fromkeys(filter(None, map(kind, options))))) or "a value"


def kind(option: Mapping[str, Any]) -> str:
    """Return one thing that a field takes."""
    if "enum" in option:
        values = [str(value) for value in option["enum"]]
        return ", ".join(f"`{value}`" for value in values[:12]) + (" ..." if len(values) > 12 else "")
    if "const" in option:
        return f"`{option['const']}`"
    name = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true, false", "array": "list", "null": "null"}
    return name.get(str(option.get("type")), "mapping" if option.get("type") == "object" else "") + "".join(limits(option))


def limits(option: Mapping[str, Any]) -> Iterator[str]:
    """Yield the bounds of a number."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    yield from (f" {sign} {option[key]:g}" for key, sign in signs.items() if key in option)


def default(found: Mapping[str, Any]) -> str:
    """Return a field's default."""
    return f"`{json.dumps(found['default'], ensure_ascii=False)}`" if "default" in found else ""


def cell(text: str) -> str:
    """Return text that fits into a table's cell; ``double`` backticks of docstrings become single ones."""
    return re.sub(r"\s+", " ", text.replace("``", "`").replace("|", "\\|"))
