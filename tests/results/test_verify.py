"""Verdicts on a sweep are kept as strict JSON beside their pictures."""

import json

import pytest
from click.testing import CliRunner

import pace_tune.worker
from pace_tune.cli.commands.verify import command
from pace_tune.results.verify import verdict_text, verify
from pace_tune.theory.checkpoint_claims import CALIBRATION_RULE, SLOPE_RULE
from pace_tune.theory.sweep_claims import CORRELATION_RULE, MONOTONE_RULE
from pace_tune.theory.training_claims import REDUCTION_RULE
from tests.results.planned_sweeps import Planned


@pytest.fixture
def door(monkeypatch):
    def rows(*folders, figures, models, progress):
        looked_at.append((folders, models))
        progress("model 1 of 1")
        known = {
            "claim": "thm2/norm",
            "says": "noise is small",
            "verdict": "holds",
            "number": 0.5,
            "low": 0.4,
            "high": 0.6,
            "count": 5,
            "rule": "below 1",
            "plot": "norms",
        }
        unknown = {
            **known,
            "claim": "thm1/norm",
            "says": "norms are small",
            "verdict": "cannot tell",
            "number": float("nan"),
            "low": -float("inf"),
            "high": float("inf"),
        }
        return [known, unknown], [figures / "norms.png"]

    looked_at = []
    monkeypatch.setattr(pace_tune.worker, "verify_runs", rows)
    return looked_at


def test_verdicts_are_kept_in_the_folder_as_strict_json(door, tmp_path):
    told = []
    found = verify(tmp_path, progress=told.append)

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    kept = json.loads((tmp_path / "verify.json").read_text(), parse_constant=refuse)
    assert kept["rows"] == found.rows
    assert [(row["number"], row["interval"]) for row in found.rows] == [(0.5, [0.4, 0.6]), (None, [None, None])]
    assert found.files == [tmp_path / "verify.json", tmp_path / "verify" / "norms.png"]
    assert told == ["model 1 of 1"]


def test_people_read_what_is_claimed_and_each_rule_once(door, tmp_path):
    (tmp_path / "history.jsonl").touch()
    text = CliRunner().invoke(command, [str(tmp_path), "--no-track"]).stdout
    known, unknown = (next(line for line in text.splitlines() if says in line) for says in ("noise is small", "norms are small"))
    assert known.split()[3:] == ["holds", "0.5", "[0.4,", "0.6]", "5", "R1"]
    assert unknown.split()[3:] == ["cannot", "tell", "5", "R1"], "of what is open at both ends nothing is known"
    assert text.count("below 1") == 1
    assert "R1  below 1" in text


@pytest.mark.parametrize(
    ("rule", "count", "said"),
    [
        (REDUCTION_RULE, 1, "cannot tell, 1 of 3 seeds"),
        (REDUCTION_RULE, 3, "cannot tell"),
        (MONOTONE_RULE, 2, "cannot tell, 2 of 3 seeds"),
        (CORRELATION_RULE, 5, "cannot tell, 5 of 10 runs"),
        (SLOPE_RULE, 9, "cannot tell, 9 of 10 models"),
        (CALIBRATION_RULE, 2, "cannot tell, 2 of 3 seeds"),
    ],
)
def test_what_is_missing_to_tell_is_said(rule, count, said):
    assert verdict_text({"verdict": "cannot tell", "count": count, "rule": rule}) == said
    assert verdict_text({"verdict": "holds", "count": count, "rule": rule}) == "holds"


def test_of_retrained_runs_those_of_the_last_confirmation_count(door, sweep_in):
    folder = sweep_in(Planned())
    (folder / "confirm.json").write_text(json.dumps({"scores": [{"lane": "pace-s0"}, {"lane": "pace-s1"}, {"lane": ""}]}))
    verify(folder, models=3)
    assert door == [((folder / "lanes", folder / "confirm" / "pace-s0", folder / "confirm" / "pace-s1"), 3)]
