"""Writes pace_reference.npz with the published code: logits, losses and gradients of single steps with given noise.

    git clone https://github.com/MaxwellYaoNi/PACE && python -m tests.reference.make_pace_reference --published PACE

Its adapters, noise, DropPath and losses run unchanged; only `torch.randn` and `bernoulli_` return our numbers. The schedule of
sigma is evaluated out of its train.py. Nothing of it is stored here but results.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import torch
from torch import nn

from tests.reference.published_cases import (
    CASES,
    DTYPES,
    LAMBDA,
    RANK,
    SAMPLES,
    SIGMA,
    STORED,
    Case,
    batch,
    digest,
    kept,
    noise,
    small_vit,
    start,
)

ADAPTERS = {"lora_mul_vpt_add": "LoRAmul_VPTadd", "lora_add": "LoRAadd", "vpt_add": "VPTadd"}
KEYS = {
    "delta_W_down": "down",
    "delta_W_up": "up",
    "delta_b": "bias",
    "delta_prompt_down": "prompt_down",
    "delta_prompt_up": "prompt_up",
    "base_module.weight": "weight",
    "base_module.bias": "bias",
}


def schedule(train: Path, *, blocks: int, quiet: int) -> np.ndarray:
    """Evaluate the published expression for sigma per block."""
    tree = ast.parse(train.read_text())
    (value,) = (n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "sigmas")
    names = {"np": np, "num_blocks": blocks, "block_start": quiet, "args": SimpleNamespace(sigma=SIGMA)}
    return eval(compile(ast.Expression(value), str(train), "eval"), names)


def adapted(case: Case, pace: ModuleType, train: Path) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    model = small_vit(case)
    pace.inject_residual_adapter(model, adapter=ADAPTERS[case.method], rank=RANK)
    pace.ensure_sharable_drop_path(model)
    places = pace.get_adapters_and_block_ids(model)
    sigmas = schedule(train, blocks=max(level for *_, level in places) + 1, quiet=1)
    for parent, name, level in places:
        setattr(parent, name, pace.MultiplicativeNoiseAdapter(getattr(parent, name), sigma=sigmas[level]))
    model.train().to(DTYPES[case.dtype])
    trainable = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "delta" in name or "head" in name
        if parameter.requires_grad:
            site, _, rest = name.partition(".adapter.")
            trainable[f"{site}/{KEYS[rest]}"] = parameter
    with torch.no_grad():
        for key, parameter in trainable.items():
            parameter.copy_(start(key, *parameter.shape, dtype=parameter.dtype))
    return model, trainable


@contextmanager
def our_numbers(model: nn.Module, pace: ModuleType, *, call: int) -> Iterator[None]:
    """Let the modules of the published code draw the numbers that belong to their names."""
    dtype = next(model.parameters()).dtype
    running: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, (pace.MultiplicativeNoiseAdapter, pace.sharable_dropout.SharableDropPath)):
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))

    def randn(*shape: int, **_: object) -> torch.Tensor:
        return noise(running[-1], shape[0], shape[-1], call=call, dtype=dtype).reshape(shape)

    def bernoulli(mask: torch.Tensor, keep: float) -> torch.Tensor:
        first = kept(running[-1], keep, call=call, dtype=dtype, samples=SAMPLES)[: len(mask)]
        # What the second half would draw must not matter.
        return mask.copy_(torch.cat([first, 1 - first])[: len(mask)].reshape(mask.shape))

    with mock.patch("torch.randn", randn), mock.patch.object(torch.Tensor, "bernoulli_", bernoulli):
        yield
    for hook in hooks:
        hook.remove()


def run(case: Case, pace: ModuleType, train: Path) -> dict[str, np.ndarray]:
    model, trainable = adapted(case, pace, train)
    x, y = batch(next(model.parameters()).dtype)
    options = {"criterion": nn.CrossEntropyLoss(), "lbd_pace": LAMBDA}
    with our_numbers(model, pace, call=0):
        if case.step == "pace":
            found = pace.compute_loss_pace(model, x, y, **options)
        elif case.step == "pace_fast":
            options |= {"history_logits": torch.zeros(SAMPLES, model.num_classes, dtype=x.dtype)}
            pace.compute_loss_pace_fast(model, x, y, index=torch.arange(SAMPLES), **options)
        else:
            itr = 2 if case.step == "pace_lazy" else 1
            found = pace.compute_loss_pace_lazy_half(model, x, y, itr=itr, lazy_interval=2, **options)
    if case.step == "pace_fast":
        with our_numbers(model, pace, call=1):
            found = pace.compute_loss_pace_fast(model, x.flip(0), y.flip(0), index=torch.arange(SAMPLES).flip(0), **options)
    found["total_loss"].backward()
    losses = [float(found[key].detach()) if key in found else 0.0 for key in ("cls_loss", "pace_loss", "total_loss")]
    # Everything that trains has a gradient, so the order of the keys is all that the rows need.
    gradients = [digest(key, trainable[key].grad) for key in sorted(trainable)]
    stored = np.dtype(case.dtype)
    return {"logits": found["logits"].detach().numpy(), "losses": np.array(losses), "gradients": np.array(gradients, dtype=stored)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the reference numbers of the published code.")
    parser.add_argument("--published", type=Path, required=True, help="a checkout of the published repository")
    folder = parser.parse_args().published / "Vision"
    sys.path.insert(0, str(folder))
    import pace

    torch.set_num_threads(1)
    arrays = {f"{case.key}/{part}": value for case in CASES for part, value in run(case, pace, folder / "train.py").items()}
    arrays["sigmas_vit"] = schedule(folder / "train.py", blocks=13, quiet=1) / SIGMA
    arrays["sigmas_swin"] = schedule(folder / "train.py", blocks=25, quiet=0) / SIGMA
    np.savez_compressed(STORED, **arrays)
    print(f"{STORED}: {len(CASES)} cases, {STORED.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
