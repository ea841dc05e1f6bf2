"""The base of everything a configuration names: frozen, strict, printable."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Component(BaseModel):
    """A named, frozen set of fields. Tasks, backbones, methods and objectives are components.

    The registry sets `name`; the fields are what a study may write beside it. Python names that end in an
    underscore (`lambda_`) are written without it in YAML and on the command line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, validate_default=True)

    name: ClassVar[str] = ""
    """The registered name. A family's member holds its own, e.g. ``vtab/cifar``, through `variant`."""

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Return the fields as they are written in YAML."""
        return tuple(field.alias or key for key, field in cls.model_fields.items())

    def as_mapping(self) -> dict[str, Any]:
        """Return ``{"name": ..., field: value}``, the form that `Registry.build` takes."""
        return {"name": self.name, **self.model_dump(by_alias=True)}
