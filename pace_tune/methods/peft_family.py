"""Every type of the `peft` library that wraps single layers, as methods ``peft:<type>``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from pace_tune.errors import ConfigError, UnsupportedError
from pace_tune.methods.layout import Layout, Place
from pace_tune.methods.method import Changes, Method, Placement
from pace_tune.methods.sites.tuner import TunerDelta, TunerSite
from pace_tune.methods.ssf import norms_and_patches
from pace_tune.methods.targets import Targets, targets_of
from pace_tune.methods.tuners import Tuners
from pace_tune.registry import methods

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "coft": ("OFT", {"coft": True}),
    "dora": ("LORA", {"use_dora": True}),
    "frod": ("FROD", {"progressbar": False}),
    # Its budget is only spent by a call that peft's own trainer makes; without it, it is LoRA as a decomposition.
    "adalora": ("ADALORA", {"total_step": 10_000}),
}
WHY_NOT = {"LILY": "peft cannot merge its layers"}
MIXES_TOKENS = ("LILY",)
"""Types whose layers route by the mean over all tokens of a batch."""
READS_AT_START = ("adamss", "deft", "delora", "dora", "frod", "ln_tuning", "osf", "psoft", "supertuning", "tinylora")
"""Types whose first numbers peft makes of the frozen weights."""


@methods.register(
    "peft:adalora",
    "peft:adamss",
    "peft:beft",
    "peft:boft",
    "peft:coft",
    "peft:deft",
    "peft:delora",
    "peft:dora",
    "peft:frod",
    "peft:glora",
    "peft:gralora",
    "peft:hira",
    "peft:hra",
    "peft:ia3",
    "peft:lily",
    "peft:ln_tuning",
    "peft:loha",
    "peft:lokr",
    "peft:lora",
    "peft:miss",
    "peft:oft",
    "peft:osf",
    "peft:peanut",
    "peft:psoft",
    "peft:pvera",
    "peft:randlora",
    "peft:road",
    "peft:shira",
    "peft:supertuning",
    "peft:tinylora",
    "peft:vera",
    "peft:waveft",
)
class PeftFamily(Method):
    """A method of the Hugging Face peft library, with noise on what it changes; it runs alone, not in lanes."""

    paper: ClassVar[str] = "Hugging Face peft"
    changes: ClassVar[Changes] = "peft"
    runs_in_lanes: ClassVar[bool] = False

    rank: int | None = Field(default=None, ge=1, description="Peft's `r`; null keeps its default.")
    alpha: float | None = Field(default=None, gt=0, description="Peft's alpha; null follows rank where peft's default does.")
    targets: Targets = Field(default="all", description="Layers: any of q, k, v, attn_out, mlp_in, mlp_out, gate, or all.")
    options: dict[str, Any] = Field(default_factory=dict, description="Further fields of peft's configuration.")

    @property
    def peft_type(self) -> str:
        """Peft's name of the type."""
        kind = self.name.partition(":")[2]
        return VARIANTS.get(kind, (kind.upper(), {}))[0]

    @property
    def needs_whole_backbone(self) -> str:
        """Peft makes all layers before any block runs."""
        kind = self.name.partition(":")[2]
        return "peft makes its first numbers of the frozen weights" if kind in READS_AT_START else ""

    def config(self) -> dict[str, Any]:
        """Return the fields of peft's configuration, without targets.

        Raises:
            ConfigError: The type has no such field.
        """
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

        kind = self.name.partition(":")[2]
        known = {field.name: field.default for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[self.peft_type]])}
        fields = {**VARIANTS.get(kind, ("", {}))[1], **self.options}
        alpha = next((key for key in ("lora_alpha", "alpha") if key in known), "alpha")
        if self.rank is not None:
            fields["r"] = self.rank
            if known.get(alpha) == known.get("r"):
                fields.setdefault(alpha, self.rank)
        if self.alpha is not None:
            fields[alpha] = self.alpha
        unknown = [key for key in fields if key not in known]
        if unknown:
            raise ConfigError(f"peft's {self.peft_type} has no {unknown[0]!r}.", path="method")
        return fields

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return one peft layer per target."""
        places = self._places(layout)
        names = {place.name for place in places if place.role == "mlp_out"}
        layers: dict[str, nn.Module] = {place.name: place.module for place in places}
        tuners = Tuners(self.config(), peft_type=self.peft_type, layers=layers, feedforward=frozenset(names))
        for place in places:
            why_not = WHY_NOT.get(self.peft_type, "")
            if self.peft_type == "BEFT" and getattr(place.module, "bias", None) is None:
                why_not = f"{place.name} has no bias to take its own"
            delta = TunerDelta(
                partial(tuners.layer, place.name),
                start=partial(tuners.start, place.name),
                shared=partial(tuners.shared, place.name),
                why_not=why_not,
                mixes_tokens=self.peft_type in MIXES_TOKENS,
            )
            yield Placement(place, delta, TunerSite)

    def _places(self, layout: Layout) -> list[Place]:
        if self.peft_type == "LN_TUNING":
            places = [place for place in norms_and_patches(layout) if not isinstance(place.module, nn.Conv2d)]
            if not places:
                raise UnsupportedError(f"method {self.name!r} trains norms, and a model of family {layout.family!r} has none.")
            return places
        targets = list(targets_of(layout, self.targets, method=self.name))
        part = next((target for target in targets if "" not in target.rows), None)
        if part is not None:
            raise UnsupportedError(f"method {self.name!r} adapts whole layers, and {part.place.name} makes q, k and v at once.")
        return [target.place for target in targets]


@methods.register("peft:c3a", "peft:fourierft", "peft:unilora", "peft:vblora")
class PeftFamilyAwayFromStart(PeftFamily):
    """A method of the Hugging Face peft library whose published start values already change the model; it runs alone."""

    identity_at_start: ClassVar[bool] = False
