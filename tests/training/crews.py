"""Crews on a small seeded ViT and random images, without task or backbone files."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from pace_tune.models.backbone import InputSpec
from pace_tune.pace.criterion import Classification
from pace_tune.study.run_config import RunConfig
from pace_tune.training.crew import Crew
from pace_tune.training.data import ResidentData
from pace_tune.training.judge import Judge
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane
from pace_tune.training.sharding import shard_backbone
from pace_tune.training.team import SOLO

CLASSES = 5
SPEC = InputSpec.image(32, normalisation="half")
BASE = {
    "task": "digits",
    "backbone": "vit_nano_cifar10",
    "method": {"name": "lora_mul_vpt_add", "rank": 3},
    "objective": "plain",
    "optim": {"epochs": 4, "batch_size": 8, "warmup_epochs": 1, "lr": 5e-3},
    "measure": {"every_epochs": 0},
}


def small_vit(*, depth=3, width=32, dtype=torch.float32, drop_path=0.1, gain=5.0) -> VisionTransformer:
    """A ViT whose adapters have a say.

    timm starts its linear layers at a standard deviation of 0.02, at which a block of this width adds next to nothing to
    the residual stream: adapters, and with them noise and masks, would hardly move the logits, and tests would see nothing.
    """
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = VisionTransformer(
            img_size=32, patch_size=8, embed_dim=width, depth=depth, num_heads=2, num_classes=CLASSES, drop_path_rate=drop_path
        )
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.weight.mul_(gain)
                    module.bias.normal_(std=0.1)
    return model.to(dtype).eval()


def images(count: int, *, seed: int, dtype=torch.float32) -> ResidentData:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (count, 3, 32, 32), generator=rng, dtype=torch.uint8)
    return ResidentData({"x": x}, torch.randint(CLASSES, (count,), generator=rng), SPEC, dtype)


def a_run(**changes) -> RunConfig:
    """A run with some fields changed; dots are written as double underscores: `optim__lr=1e-3`."""
    flat = {key.replace("__", "."): value for key, value in changes.items()}
    return RunConfig.model_validate(BASE).with_values(flat)


def a_crew(*, dtype=torch.float32, train=40, team=None, sharded=False, **model) -> Crew:
    backbone = small_vit(dtype=dtype, **model)
    if sharded and team is not None:
        shard_backbone(backbone, team=team, device=torch.device("cpu"))
    return Crew(
        backbone,
        train=images(train, seed=1, dtype=dtype),
        val=images(16, seed=2, dtype=dtype),
        judge=Judge(Classification()),
        team=team or SOLO,
    )


def train(crew: Crew, runs: dict[str, RunConfig], *, epochs: int) -> dict[str, list[dict]]:
    """Open lanes, train some epochs, and return each lane's reports."""
    for name, run in runs.items():
        crew.add(Lane(name, run, LaneState({})))
    return more(crew, epochs=epochs)


def more(crew: Crew, *, epochs: int) -> dict[str, list[dict]]:
    reports: dict[str, list[dict]] = {}
    for _ in range(epochs):
        for report in crew.epoch():
            reports.setdefault(report["lane"], []).append(report)
            if report["state"] != "running":
                crew.drop(report["lane"])
    return reports


def curve(reports: list[dict], *keys: str) -> list[float]:
    """Return every metric of every report, or those asked for; what a clock measured is left out."""
    return [
        value for report in reports for key, value in sorted(report["metrics"].items()) if (key in keys if keys else "speed" not in key)
    ]


def parameters(crew: Crew, name: str) -> torch.Tensor:
    return torch.cat([value.flatten() for value in crew.lane(name).state.values.values()])
