"""Which kind of site a kind of delta needs."""

from __future__ import annotations

from pace_tune.methods.method import Delta, LinearDelta
from pace_tune.methods.site import LinearSite, Site
from pace_tune.methods.sites.block import PromptDelta, PromptSite
from pace_tune.methods.sites.feature import FeatureDelta, FeatureSite
from pace_tune.methods.sites.head import HeadDelta, HeadSite
from pace_tune.methods.sites.module import EmbedDelta, EmbedSite, ModuleDelta, ModuleSite

KINDS: tuple[tuple[type[Delta], type[Site]], ...] = (
    (HeadDelta, HeadSite),
    (LinearDelta, LinearSite),
    (FeatureDelta, FeatureSite),
    (ModuleDelta, ModuleSite),
    (EmbedDelta, EmbedSite),
    (PromptDelta, PromptSite),
)


def site_for(delta: Delta) -> type[Site]:
    """Return the kind of site for a delta; the first match wins."""
    return next(site for kind, site in KINDS if isinstance(delta, kind))
