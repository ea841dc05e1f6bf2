"""Verdicts on a sweep are kept as strict JSON beside their pictures."""

import json

import pytest

import pace_tune.worker
from pace_tune.results.verify import verify


@pytest.fixture
def door(monkeypatch):
    def rows(*folders, figures, progress):
        progress("model 1 of 1")
        known = {
            "claim": "thm2/norm",
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
            "verdict": "cannot tell",
            "number": float("nan"),
            "low": -float("inf"),
            "high": float("inf"),
        }
        return [known, unknown], [figures / "norms.png"]

    monkeypatch.setattr(pace_tune.worker, "verify_runs", rows)


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
