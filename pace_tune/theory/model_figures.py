"""Figures of single models: how well the expansions describe them, what goes with the distance, sharpness, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pace_tune.theory.canvas import colour, in_order, legend, new_figure, tidy
from pace_tune.theory.checkpoint import RADIUS, Reading
from pace_tune.theory.runs import Run
from pace_tune.theory.sharpness import Sharpness

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def model_figures(readings: Sequence[Reading], sharpness: Sequence[tuple[Run, Sharpness, float]]) -> dict[str, Figure | None]:
    """Return figures by name."""
    if not readings:
        return {}
    groups = {kind: [reading for reading in readings if reading.run.kind == kind] for kind in {reading.run.kind for reading in readings}}
    return {
        "expansion": _expansion(groups),
        "distance": _distance(groups),
        "calibration": _calibration(groups),
        "sharpness": _sharpness(sharpness) if sharpness else None,
    }


def _expansion(groups: dict[str, list[Reading]]) -> Figure:
    figure = new_figure(11, 4.4)
    noise, change = figure.subplots(1, 2)
    for kind in in_order(groups):
        scales = [expansion.scale for expansion in groups[kind][0].expansions]
        ratios = np.array([[expansion.ratio.value for expansion in reading.expansions] for reading in groups[kind]])
        parts = [[expansion.parts.explained for expansion in reading.expansions] for reading in groups[kind]]
        for panel, values in ((noise, ratios), (change, np.array(parts))):
            panel.plot(scales, values.mean(axis=0), marker="o", color=colour(kind), label=kind)
            panel.fill_between(scales, values.min(axis=0), values.max(axis=0), color=colour(kind), alpha=0.12, linewidth=0)
    for panel, title in ((noise, "d_pace / first order (Thm 2), each run's σ"), (change, "(a − b/2)² / distance (Prop. 1)")):
        panel.axhline(1, color="#333333", linewidth=0.9)
        panel.set_xscale("log")
        panel.set_xticks(scales, [f"{scale:g}" for scale in scales], minor=False)
        panel.set_xticks([], minor=True)
        tidy(panel, title=title, xlabel="t of θ₀ + tΔθ (1 is the trained model)", log_y=True)
    legend(noise)
    figure.suptitle("The expansions hold where the ratio is 1; mean and range over models")
    return figure


def _distance(groups: dict[str, list[Reading]]) -> Figure:
    figure = new_figure(11, 4.4)
    noise, alignment = figure.subplots(1, 2)
    for kind in in_order(groups):
        parts = [reading.expansions[0].parts for reading in groups[kind]]
        distance = [part.distance for part in parts]
        values = [reading.expansions[0].d_pace.value / reading.sigma**2 for reading in groups[kind]]
        noise.scatter(values, distance, color=colour(kind), label=kind)
        alignment.scatter([part.kappa for part in parts], distance, color=colour(kind), label=kind)
    for panel, title, label in (
        (noise, "Distance against d_pace / σ² (Thm 3's mechanism)", "d_pace / σ²"),
        (alignment, "Distance against alignment", "κ = (Σa)² / Σa²"),
    ):
        tidy(panel, title=title, xlabel=label, ylabel="distance to pretrained outputs", log_x=True, log_y=True)
    figure.legend(*noise.get_legend_handles_labels(), loc="outside lower center", ncols=len(groups), frameon=False)
    return figure


def _calibration(groups: dict[str, list[Reading]]) -> Figure | None:
    kinds = in_order(kind for kind, group in groups.items() if np.isfinite(group[0].calibration_error))
    if not kinds:
        return None
    figure = new_figure(13, 4)
    for panel, field, title in zip(
        figure.subplots(1, 2),
        ("calibration_error", "tempered_loss"),
        ("Calibration error (ECE, validation)", "Validation loss at a fitted temperature"),
        strict=True,
    ):
        for i, kind in enumerate(kinds):
            values = [getattr(reading, field) for reading in groups[kind]]
            panel.scatter([i] * len(values), values, color=colour(kind), alpha=0.5, s=18)
            panel.plot([i - 0.25, i + 0.25], [np.mean(values)] * 2, color=colour(kind), linewidth=2.5)
        panel.set_xticks(range(len(kinds)), _two_lines(kinds))
        tidy(panel, title=title)
    return figure


def _sharpness(found: Sequence[tuple[Run, Sharpness, float]]) -> Figure:
    figure = new_figure(8, 4)
    axes = figure.subplots()
    by_kind = {run.kind: (point, reached) for run, point, reached in found}
    for i, kind in enumerate(in_order(by_kind)):
        point, reached = by_kind[kind]
        first = RADIUS * point.grad_norm
        second = RADIUS**2 / 2 * point.lambda_max
        axes.bar(i - 0.2, first, 0.36, color=colour(kind), label="ρ‖∇L‖" if i == 0 else None)
        axes.bar(i - 0.2, second, 0.36, bottom=first, color=colour(kind), alpha=0.4, label="ρ²λ_max / 2" if i == 0 else None)
        axes.bar(i + 0.2, reached - point.loss, 0.36, color="#333333", label="rise found by ascent" if i == 0 else None)
    axes.set_xticks(range(len(by_kind)), _two_lines(in_order(by_kind)))
    tidy(axes, title=f"How much the training loss can rise within ρ = {RADIUS:g} (Thm 1)", ylabel="rise of the loss")
    legend(axes)
    return figure


def _two_lines(kinds: Sequence[str]) -> list[str]:
    return [kind.replace(" (", "\n(") for kind in kinds]
