import pytest
from torch import Tensor

from pace_tune.methods.adapted import Adapted
from pace_tune.models.vit_nano_cifar10 import VitNanoCifar10
from pace_tune.registry import methods
from tests.theory.toys import normal


@pytest.fixture(scope="session")
def vit() -> tuple[Adapted, dict[str, Tensor]]:
    """The packaged ViT with deltas of the size that training gives them, in float64, and four images."""
    model = VitNanoCifar10().build(num_classes=5).double()
    adapted = Adapted(model, [methods.build({"name": "lora_add", "rank": 2})], seeds=[0])
    values = adapted.lane_values(0)
    adapted.bank.write(0, {key: value + 0.03 * normal(*value.shape, seed=i) for i, (key, value) in enumerate(values.items())})
    return adapted, {"x": 0.5 * normal(4, 3, 32, 32, seed=9)}
