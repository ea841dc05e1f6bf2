"""Which of peft's types make their first numbers of frozen weights: those do not go with weights that are spread over processes."""

import pytest
import torch
from torch import Tensor

from pace_tune.errors import UnsupportedError
from pace_tune.methods import tuners
from pace_tune.methods.adapted import Adapted
from pace_tune.methods.peft_family import READS_AT_START
from pace_tune.methods.sites.tuner import TunerSite
from pace_tune.registry import methods
from tests.training.crews import small_vit

NAMES = [name for name in methods.names() if name.startswith("peft:")]


def first_numbers(name: str, *, away: bool) -> dict[str, Tensor]:
    model = small_vit(depth=1)
    if away:
        for parameter in model.parameters():
            parameter.data = parameter.new_full((), torch.nan).expand(parameter.shape)
    rank = {"rank": 4} if name in ("peft:miss", "peft:shira") else {}
    adapted = Adapted(model, [methods.build({"name": name, **rank})], seeds=[0])
    found = {key: value for key, value in adapted.lane_values(0).items() if not adapted.is_head(key)}
    for key, site in adapted.sites.items():
        if isinstance(site, TunerSite):
            found |= {f"{key}:{buffer}": value for buffer, value in site.frozen_buffers()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_types_that_read_frozen_weights_at_their_start_are_known(monkeypatch, name):
    monkeypatch.setattr(tuners, "_weight_sum", lambda _: 0.0)
    whole = first_numbers(name, away=False)
    try:
        away = first_numbers(name, away=True)
        reads = any(not torch.equal(away[key].float(), value.float()) for key, value in whole.items())
    except UnsupportedError:
        reads = True
    assert reads == (name.partition(":")[2] in READS_AT_START)
    assert bool(methods.build({"name": name}).needs_whole_backbone) == reads
