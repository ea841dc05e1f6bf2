"""What a study's published protocol leaves open: nothing of it is copied silently."""

from __future__ import annotations

from pace_tune.results.report.parts import Section, Table
from pace_tune.results.sweep_data import Sweep
from pace_tune.study.protocol import KEY, protocol_notes


def protocol(sweep: Sweep) -> list[Section]:
    """Return the notes on the protocol; nothing where the study follows none."""
    if not sweep.fixed.get(KEY):
        return []
    notes = Table(
        name=f"{sweep.name}-protocol",
        title="Published protocol",
        columns={"note": "what it leaves open, and where this study departs from it"},
        rows=[{"note": note} for note in protocol_notes(sweep.task)],
        left=("note",),
    )
    lead = f"This study takes the settings of `protocol: {sweep.fixed[KEY]}` where it gives none of its own."
    return [Section(anchor="protocol", title="Published protocol", lead=lead, parts=(notes,))]
