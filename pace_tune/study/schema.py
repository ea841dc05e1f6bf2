"""The JSON Schema of a study file, from the classes themselves: what editors complete and check against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pace_tune import registry as registries
from pace_tune.study.domains import DIGITS, OPTIONS
from pace_tune.study.paths import COMPONENTS
from pace_tune.study.protocol import PROTOCOLS
from pace_tune.study.run_config import DEFAULT_NAMES, DataConfig, InitConfig, MeasureConfig, OptimConfig, RunConfig, Section
from pace_tune.study.search_config import EarlyStopping, ResourcesConfig, SearchConfig, TrackingConfig
from pace_tune.study.space_check import SHARED

Schema = dict[str, Any]
SECTIONS: tuple[type[Section], ...] = (
    OptimConfig,
    DataConfig,
    InitConfig,
    MeasureConfig,
    SearchConfig,
    ResourcesConfig,
    TrackingConfig,
)


def study_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a study file: every leaf of a run is a value or a domain.

    Loads every registered class, and torch with them.
    """
    definitions: Schema = {f"{kind}_domain": _domain(kind) for kind in OPTIONS}
    sections = {kind: _component(kind, definitions) for kind in COMPONENTS}
    for section in SECTIONS:
        searched = section.section in RunConfig.model_fields and section.section not in SHARED
        sections[section.section] = _fields(section, definitions, searched=searched)
    sections["search"]["properties"]["sampler"] = _component("sampler", definitions)
    # `early_stopping: none` is short for `{name: none}`.
    stopping = sections["search"]["properties"]["early_stopping"]
    short = EarlyStopping.model_json_schema()["properties"]["name"]["enum"]
    sections["search"]["properties"]["early_stopping"] = {"anyOf": [{"enum": short}, stopping]}
    # `init_from: FOLDER` is short for `{path: FOLDER}`.
    sections["init_from"] = {"anyOf": [{"type": "string"}, sections["init_from"]]}
    seed = RunConfig.model_fields["seed"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pace-tune study",
        "description": "A run with holes, and how to search them.",
        "type": "object",
        "properties": {
            "protocol": {"enum": list(PROTOCOLS), "description": "Published settings of the task, under what the file says."},
            "name": {"type": "string", "description": "Of the sweep; the file's name unless given."},
            **sections,
            "seed": _leaf({"type": "integer", "minimum": 0, "default": seed.default, "description": seed.description}, searched=True),
            "output": {"type": "string", "description": "Folder of sweeps.", "default": "pace-runs"},
            "storage": {
                "type": "string",
                "description": "s3://bucket/prefix or an absolute folder for the lanes; the sweep's own folder unless given.",
            },
        },
        "required": [*(kind for kind in COMPONENTS if kind not in DEFAULT_NAMES), "search"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _component(kind: str, definitions: Schema) -> Schema:
    """A name; or a name and its fields; or a choice of names and the fields of any of them."""
    registry, searched = getattr(registries, f"{kind}s"), kind in RunConfig.model_fields and kind not in SHARED
    names = list(registry.names())
    named, every = [], dict[str, Any]()
    for name in names:
        fields = _fields(registry.get(name), definitions, searched=searched)
        every |= fields["properties"]
        properties = {"name": {"const": name}, **fields["properties"]}
        named.append({**fields, "description": registry.summary(name), "properties": properties, "required": ["name"]})
    forms: list[Schema] = [{"enum": names}, *named]
    if searched:
        listed = {"choice": {"type": "array", "items": {"enum": names}, "minItems": 1}}
        choice: Schema = {"type": "object", "properties": listed, "required": ["choice"], "additionalProperties": False}
        either: Schema = {"type": "object", "properties": {"name": choice, **every}, "required": ["name"], "additionalProperties": False}
        forms += [choice, either]
    section = RunConfig if kind in RunConfig.model_fields else SearchConfig
    return {"description": section.model_fields[kind].description, "anyOf": forms}


def _fields(cls: type[BaseModel], definitions: Schema, *, searched: bool) -> Schema:
    schema = cls.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
    definitions |= schema.pop("$defs", {})
    properties = {field: _leaf(leaf, searched=searched) for field, leaf in schema.get("properties", {}).items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _leaf(schema: Schema, *, searched: bool) -> Schema:
    """A value, or where it may be searched a domain of a fitting kind."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    if not searched:
        return schema
    outside: Schema = {key: schema.pop(key) for key in ("description", "default") if key in schema}
    domains = [{"$ref": f"#/$defs/{kind}_domain"} for kind in _kinds({*_types(schema)})]
    return {**outside, "anyOf": [*schema.get("anyOf", [schema]), *domains]}


def _kinds(types: set[str]) -> tuple[str, ...]:
    if "number" in types:
        return ("float", "int", "choice")
    if "integer" in types:
        return ("int", "choice")
    return ("choice", "digits") if "string" in types else ("choice",)


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(schema.get("type"), str):
        yield schema["type"]
    for part in schema.get("anyOf", ()):
        yield from _types(part)


def _domain(kind: str) -> Schema:
    if kind == "choice":
        inner: Schema = {"type": "array", "minItems": 1, "uniqueItems": True, "description": "One of a list."}
    elif kind == "digits":
        size = {"type": "integer", "minimum": 1, "maximum": len(DIGITS)}
        inner = {"type": "array", "items": size, "minItems": 1, "description": "A way through a supernet: options at each place."}
    else:
        number = {"type": "number" if kind == "float" else "integer"}
        inner = {"type": "array", "items": number, "minItems": 2, "maxItems": 2, "description": "[low, high], ends included."}
    described = {
        "log": {"type": "boolean", "default": False, "description": "Search the order of magnitude."},
        "times": {"type": "integer", "minimum": 1, "default": 1, "description": "How often these places come."},
        "step": {"type": "integer", "minimum": 1, "default": 1, "description": "Every how many-th number."},
    }
    properties = {kind: inner, **{option: described[option] for option in OPTIONS[kind]}}
    return {"type": "object", "properties": properties, "required": [kind], "additionalProperties": False}
