"""Claims get the verdict that the numbers have been given, whichever it is."""

from pathlib import Path

import numpy as np
import pytest

from pace_tune.errors import DataError
from pace_tune.theory.runs import matched, read_runs, representatives
from pace_tune.theory.sweep_claims import generalisation, sweep_claims
from pace_tune.theory.training_claims import training_claims
from pace_tune.theory.verdict import Verdict
from tests.theory.planned_runs import write_pairs, write_run

LOWER = {"measure/jacobian_norm": 0.6, "measure/logit_norm": 0.5, "measure/fp_distance": 0.3, "val/accuracy": 1.1}


def by_claim(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.claim: verdict for verdict in verdicts}


def test_an_effect_is_found_where_it_is_and_not_where_it_is_not(tmp_path: Path):
    found = by_claim(training_claims(read_runs(write_pairs(tmp_path, {"pace": LOWER, "plain": {}, "noise": {}}))))
    assert found["thm2/jacobian_norm/pace-plain"].verdict == "holds"
    assert found["thm2/jacobian_norm/pace-plain"].number == pytest.approx(0.6, rel=0.05)
    assert found["thm3/fp_distance/pace-noise"].verdict == "holds"
    # The logits shrank more than the Jacobian: per logit it grew.
    assert found["thm2/jacobian_relative/pace-plain"].verdict == "does not hold"
    assert found["thm2/grad_norm/pace-plain"].verdict == "does not hold"
    assert found["generalisation/accuracy/pace-plain"].verdict == "holds"
    assert found["generalisation/gap/pace-plain"].verdict in {"does not hold", "cannot tell"}


def test_a_planted_violation_does_not_hold(tmp_path: Path):
    raised = {"measure/jacobian_norm": 1.3, "measure/fp_distance": 2.0, "val/accuracy": 0.9}
    found = by_claim(
        training_claims(read_runs(write_pairs(tmp_path, {"pace": raised, "plain": {}, "fpa": {"measure/jacobian_norm": 0.5}})))
    )
    for claim in ("thm2/jacobian_norm/pace-plain", "thm3/fp_distance/pace-plain", "generalisation/accuracy/pace-plain"):
        assert found[claim].verdict == "does not hold"
    assert found["prop1/jacobian_norm/fpa-plain"].verdict == "does not hold"  # here aligning alone does reduce it


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.02), (4, 0.6)])
def test_too_few_seeds_or_too_much_chance_cannot_tell(tmp_path: Path, seeds: int, spread: float):
    runs = read_runs(write_pairs(tmp_path, {"pace": {"measure/jacobian_norm": 0.8}, "plain": {}}, seeds=seeds, spread=spread))
    assert by_claim(training_claims(runs))["thm2/jacobian_norm/pace-plain"].verdict == "cannot tell"


def test_equal_loss_is_where_both_curves_reached_the_level_of_the_worse(tmp_path: Path):
    slow = write_run(tmp_path, "slow", objective={"name": "pace"}, scale={"val/loss": 1.5, "gap/loss": 1.5})
    fast = write_run(tmp_path, "fast", objective={"name": "plain"})
    first, second = (read_runs(folder)[0] for folder in (slow, fast))
    # slow ends at a loss of 0.75, which fast starts at: 1.5 times its norm's end.
    assert matched(first, second, "measure/jacobian_norm") == pytest.approx((50.0, 75.0))


def test_the_setting_of_a_kind_is_the_one_with_most_seeds_then_the_best_score(tmp_path: Path):
    for seed in range(3):
        write_run(tmp_path, f"a{seed}", objective={"name": "pace", "lambda": 1}, seed=seed)
        write_run(tmp_path, f"b{seed}", objective={"name": "pace", "lambda": 2}, seed=seed, scale={"val/accuracy": 1.1})
    write_run(tmp_path, "c0", objective={"name": "pace", "lambda": 3}, scale={"val/accuracy": 1.3})
    chosen = representatives(read_runs(tmp_path))["pace"]
    assert [run.objective["lambda"] for run in chosen.values()] == [2, 2, 2]


def test_a_setting_measured_once_does_not_stand_for_its_kind_beside_one_measured_often(tmp_path: Path):
    for seed in range(3):
        write_run(tmp_path, f"a{seed}", objective={"name": "pace", "lambda": 1}, seed=seed, epochs=4)
        write_run(tmp_path, f"b{seed}", objective={"name": "pace", "lambda": 2}, seed=seed, epochs=1, scale={"val/accuracy": 1.1})
    chosen = representatives(read_runs(tmp_path))["pace"]
    assert [run.objective["lambda"] for run in chosen.values()] == [1, 1, 1]


def test_a_run_that_two_studies_share_counts_once_as_it_was_measured_most(tmp_path: Path):
    write_run(tmp_path, "a", objective={"name": "plain"}, epochs=2)
    write_run(tmp_path, "b", objective={"name": "plain"}, epochs=4)
    write_run(tmp_path, "c", objective={"name": "plain"}, epochs=3)
    assert [run.folder.name for run in read_runs(tmp_path)] == ["b"]


def test_noise_on_the_head_makes_two_kinds(tmp_path: Path):
    write_run(tmp_path, "a", objective={"name": "pace", "head_noise": False})
    write_run(tmp_path, "b", objective={"name": "pace", "head_noise": True})
    assert {run.kind for run in read_runs(tmp_path)} == {"pace", "pace (σ_head = 0)"}


def write_sweep(root: Path, *, trends: dict[str, float], bump: float = 1.0) -> Path:
    rng = np.random.default_rng(0)
    for seed in range(3):
        write_run(
            root, f"plain-{seed}", objective={"name": "plain"}, seed=seed, scale={"measure/jacobian_norm": np.exp(0.01 * rng.normal())}
        )
        for kind, power in trends.items():
            for i, weight in enumerate((0.01, 0.1, 1.0, 10.0, 100.0)):
                norm = weight**power * (bump if kind == "fpa" and i == 2 else 1.0) * np.exp(0.01 * rng.normal())
                write_run(
                    root, f"{kind}-{i}-{seed}", objective={"name": kind, "lambda": weight}, seed=seed, scale={"measure/jacobian_norm": norm}
                )
    return root


def test_lambda_sweeps_are_ruled_on(tmp_path: Path):
    good = by_claim(sweep_claims(read_runs(write_sweep(tmp_path / "good", trends={"pace": -0.2, "fpa": 0.0}, bump=1.5))))
    assert good["fig5/jacobian_norm/pace_falls"].verdict == "holds"
    assert good["fig5/jacobian_norm/fpa_exceeds_plain"].verdict == "holds"
    bad = by_claim(sweep_claims(read_runs(write_sweep(tmp_path / "bad", trends={"pace": 0.2, "fpa": 0.0}))))
    assert bad["fig5/jacobian_norm/pace_falls"].verdict == "does not hold"
    assert bad["fig5/jacobian_norm/fpa_exceeds_plain"].verdict == "does not hold"


def write_gaps(root: Path, *, sign: float, through_loss: bool = False) -> Path:
    rng = np.random.default_rng(3)
    for i in range(60):
        cause = rng.normal()
        norm, gap = np.exp(0.3 * (cause + 0.3 * rng.normal())), np.exp(sign * 0.3 * (cause + 0.3 * rng.normal()))
        scale = {"measure/grad_norm": norm, "gap/loss": gap}
        # The training loss is val - gap: hold it where it is, or let it carry the cause.
        clean = 0.5 * np.exp(0.5 * cause) if through_loss else 0.5 * np.exp(0.05 * rng.normal())
        scale["val/loss"] = (clean + 0.4 * gap) / 0.9
        write_run(root, f"t{i:04d}", objective={"name": "plain"}, seed=0, scale=scale, lr=1e-4 * (i + 1))
    return root


def test_what_goes_with_the_gap_is_ruled_on_raw_and_at_equal_loss(tmp_path: Path):
    together = by_claim(generalisation(read_runs(write_gaps(tmp_path / "a", sign=1))))
    assert together["thm1/grad_norm"].verdict == together["thm1/grad_norm/equal_loss"].verdict == "holds"
    against = by_claim(generalisation(read_runs(write_gaps(tmp_path / "b", sign=-1))))
    assert against["thm1/grad_norm"].verdict == "does not hold"
    confounded = by_claim(generalisation(read_runs(write_gaps(tmp_path / "c", sign=1, through_loss=True))))
    assert confounded["thm1/grad_norm"].verdict == "holds"
    assert confounded["thm1/grad_norm/equal_loss"].verdict != "holds"


def test_unfinished_and_damaged_runs(tmp_path: Path):
    with pytest.raises(DataError, match="no finished run"):
        read_runs(tmp_path)
    write_run(tmp_path, "pruned", objective={"name": "plain"}, state="running")
    write_run(tmp_path, "lost", objective={"name": "plain"}, state="diverged")
    good = write_run(tmp_path, "good", objective={"name": "plain"})
    assert [run.folder for run in read_runs(tmp_path)] == [good]
    (good / "lane.safetensors").write_bytes(b"short")
    with pytest.raises(DataError, match="not a lane checkpoint"):
        read_runs(tmp_path)


def test_a_row_is_plain_and_names_rule_and_plot(tmp_path: Path):
    for verdict in training_claims(read_runs(write_pairs(tmp_path, {"pace": {}, "plain": {}}))):
        row = verdict.as_row()
        assert {"claim", "says", "verdict", "number", "low", "high", "count", "rule", "plot"} == row.keys()
        assert all(isinstance(value, str | int | float) for value in row.values())
        assert row["rule"]
        assert row["plot"]
