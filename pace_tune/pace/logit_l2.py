"""Logit L2: the penalty that PACE's head noise hides, alone and without noise."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from pace_tune.methods.adapted import Adapted
from pace_tune.pace.draws import quiet_by_default
from pace_tune.pace.levels import Shape, sigma_levels
from pace_tune.pace.objective import Step, Terms
from pace_tune.pace.penalised import Penalised
from pace_tune.registry import objectives


@objectives.register("logit_l2")
class LogitL2(Penalised):
    """Task loss + lambda * 2 sigma_head^2 * mean ||f||^2.

    Noise on the logits, f_c z_c with z_c ~ N(1, sigma_head^2), puts exactly this term into PACE's E||f1 - f2||^2, where
    nothing else is perturbed. A run with PACE's own sigma, lambda, quiet_blocks and levels under this objective says how
    much of PACE is shrinking of the logits.
    """

    paper: ClassVar[str] = "control; the term that Ni et al. 2024 (PACE) add with the head's noise"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"sigma", "lambda_"})

    sigma: float = Field(default=1.0, ge=0, description="PACE's sigma; the head's is smaller by the same factor as there.")
    lambda_: float = Field(default=0.5, ge=0, alias="lambda", description="PACE's lambda.")
    quiet_blocks: int | None = Field(default=None, ge=0, description="As PACE's.")
    levels: Shape = Field(default="decreasing", description="As PACE's.")

    def terms(self, step: Step) -> Terms:
        """Return the losses of one clean pass; `consistency` is 2 sigma_head^2 * mean ||f||^2."""
        logits_KBC = step.forward(step.draw(renormalise=self.renormalise_drop_path))[:, 0]
        squared_K = step.distance(logits_KBC, torch.zeros_like(logits_KBC))
        sigma_head_K = step.strengths["sigma"] * self._head_factor(step.adapted)
        return self.sum(step, logits_KBC, 2 * sigma_head_K.square() * squared_K)

    def _head_factor(self, adapted: Adapted) -> float:
        quiet = quiet_by_default(adapted) if self.quiet_blocks is None else self.quiet_blocks
        return sigma_levels(adapted.layout.depth, quiet_blocks=quiet, shape=self.levels)[-1]
