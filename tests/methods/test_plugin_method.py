"""Adding a method touches one file: a method in a module of its own is listed, tested by the contract, described and trained."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pace_tune.registry import methods
from tests.methods import test_contract

SOURCE = '''
"""A method of someone else's: one bias a layer, the same for all channels."""

from typing import ClassVar

import torch
from pydantic import Field

from pace_tune.methods.method import LinearDelta, LinearMethod
from pace_tune.registry import methods


class ConstantDelta(LinearDelta):
    """delta(x) = c."""

    def __init__(self, base, *, size):
        super().__init__(base)
        self.size = size

    def init(self, generator):
        """Return zeros."""
        return {"c": torch.zeros(self.size)}

    def weights(self, parameters):
        """Return (None, the mean of c)."""
        return None, parameters["c"].mean(dim=-1, keepdim=True).expand(*parameters["c"].shape[:-1], self.out_features)


@methods.register("one_bias")
class OneBias(LinearMethod):
    """A bias a layer."""

    paper: ClassVar[str] = "none"

    size: int = Field(default=2, ge=1)

    def delta(self, base):
        """Return the bias."""
        return ConstantDelta(base, size=self.size)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "someone_elses_method.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PACE_TUNE_PLUGINS", "someone_elses_method")
    yield
    methods._classes.pop("one_bias", None)
    sys.modules.pop("someone_elses_method", None)


@pytest.mark.usefixtures("plugin")
def test_it_is_in_the_listing_and_in_the_contract():
    assert "one_bias" in methods.names()
    assert methods.summary("one_bias") == "A bias a layer."
    assert {family for name, family in test_contract.cases() if name == "one_bias"} == set(test_contract.MODELS)
    test_contract.test_it_starts_as_it_promises("one_bias", "vit")
    test_contract.test_it_merges_to_equal_outputs_or_says_why_not("one_bias", "vit")
    test_contract.test_lanes_equal_alone("one_bias", "vit")
    test_contract.test_products_over_lanes_equal_one_lane_lifted("one_bias", "vit")


@pytest.mark.usefixtures("plugin")
def test_it_is_described():
    from pace_tune.methods.describe import describe

    (row,) = describe("vit_nano_cifar10", names=["one_bias"])
    assert row["parameters"] == 2 * 4 * 6  # two numbers in four layers of six blocks
    assert row["merges"]
    assert row["identity_at_start"]


@pytest.mark.usefixtures("plugin")
def test_it_trains_through_the_door(tmp_path: Path):
    from pace_tune.worker import Worker

    worker = Worker({"task": "digits", "backbone": "vit_nano_cifar10"}, storage=tmp_path / "lanes", device="cpu")
    run = {"task": "digits", "backbone": "vit_nano_cifar10", "method": {"name": "one_bias", "size": 3}, "optim": {"epochs": 1}}
    worker.open("t0000", run)
    (report,) = worker.advance()
    assert report["state"] == "finished", report["reason"]
