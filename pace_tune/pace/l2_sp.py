"""L2-SP: a squared penalty on the distance from the starting point (Li, Grandvalet and Davoine, ICML 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pace_tune.pace.objective import Step, Terms
from pace_tune.pace.penalised import PEFT_HIDES, HeadDecayed
from pace_tune.pace.weight_space import half_squared, head_weights
from pace_tune.registry import objectives


@objectives.register("l2_sp")
class L2Sp(HeadDecayed):
    """Task loss + lambda / 2 * ||theta - theta_0||^2 + head_decay / 2 * ||head||^2 (eq. 2 there, alpha and beta).

    theta are the effective weights, W0 + dW and b0 + db.
    """

    paper: ClassVar[str] = "Li et al. 2018 (L2-SP); Ni et al. 2024 (PACE), Table 8"
    refused: ClassVar[Mapping[str, str]] = PEFT_HIDES

    def terms(self, step: Step) -> Terms:
        """Return the losses of one clean pass; `consistency` is half the squared distance."""
        logits_KBC = step.forward(step.draw(renormalise=self.renormalise_drop_path))[:, 0]
        terms = self.sum(step, logits_KBC, half_squared(step.adapted.changes(), like=logits_KBC))
        decay_K = step.strengths["head_decay"] * half_squared(head_weights(step.adapted), like=logits_KBC)
        return replace(terms, total=terms.total + decay_K)
