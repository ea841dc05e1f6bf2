"""Forms of one adapted linear layer on a GPU, forward and backward: which one a step should take.

    python benchmarks/gpu_layers.py --json layers.json

Times are of CUDA graphs, so that only the device's work counts. Layers are those of ViT-B, inputs bfloat16 with 197 tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pace_tune.methods import fused

LAYERS = {"qkv": (768, 2304), "proj": (768, 768), "fc1": (768, 3072), "fc2": (3072, 768)}
TOKENS, REPEATS, ROUNDS = 197, 5, 5
Form = Callable[[Tensor], Tensor]


def forms(width_in: int, width_out: int, *, lanes: int, rows: int) -> dict[str, Form]:
    """Return name -> a function of x (K, R*T, I)."""

    def numbers(*shape: int, grad: bool = False) -> Tensor:
        return (0.05 * torch.randn(shape, device="cuda", dtype=torch.bfloat16)).requires_grad_(grad)

    weight, bias, z_KRO = numbers(width_out, width_in), numbers(width_out), 1 + numbers(lanes, rows, width_out)
    found: dict[str, Form] = {"frozen alone": lambda x: F.linear(x, weight, bias)}
    for rank in (4, 7, 16, 15):
        up, down, shift = (
            numbers(lanes, rank, width_in, grad=True),
            numbers(lanes, width_out, rank, grad=True),
            numbers(lanes, width_out, grad=True),
        )

        def folded(x: Tensor, up: Tensor = up, down: Tensor = down, shift: Tensor = shift) -> Tensor:
            return fused.low_rank(x, weight, bias, up_KrI=up, down_KOr=down, shift_KO=shift, z_KRO=z_KRO)

        def plain(x: Tensor, up: Tensor = up, down: Tensor = down, shift: Tensor = shift) -> Tensor:
            delta = torch.baddbmm(shift[:, None], torch.bmm(x, up.mT), down.mT).view(lanes, rows, -1, width_out)
            return torch.addcmul(F.linear(x, weight, bias).view(delta.shape), z_KRO[:, :, None], delta).view(*x.shape[:2], -1)

        found[f"folded {rank}"] = folded
        if rank in (4, 15):
            found[f"plain {rank}"] = plain
            found[f"plain {rank} compiled"] = torch.compile(plain, dynamic=False)
            found[f"folded {rank} compiled"] = torch.compile(folded, dynamic=False)
    change, shift = numbers(lanes, width_out, width_in, grad=True), numbers(lanes, width_out, grad=True)

    def dense(x: Tensor) -> Tensor:
        return fused.dense(x, weight, bias, change_KOI=change, shift_KO=shift, z_KRO=z_KRO)

    def plain_dense(x: Tensor) -> Tensor:
        delta = torch.baddbmm(shift[:, None], x, change.mT).view(lanes, rows, -1, width_out)
        return torch.addcmul(F.linear(x, weight, bias).view(delta.shape), z_KRO[:, :, None], delta).view(*x.shape[:2], -1)

    found |= {"dense": dense, "plain dense": plain_dense, "plain dense compiled": torch.compile(plain_dense, dynamic=False)}
    return found


def microseconds(form: Form, x: Tensor, grad: Tensor) -> float:
    """Return the time of a forward and a backward pass."""

    def both() -> None:
        form(x).backward(grad)

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            both()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            both()
    times = []
    for _ in range(ROUNDS + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        times.append(1e6 * (time.perf_counter() - started) / REPEATS)
    return statistics.median(times[1:])


def main() -> None:
    """Time all forms of all layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["1x128", "8x16", "1x16"], help="lanes x rows")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = []
    for size in options.sizes:
        lanes, rows = (int(part) for part in size.split("x"))
        for layer, (width_in, width_out) in LAYERS.items():
            x = torch.randn(lanes, rows * TOKENS, width_in, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            grad = torch.randn(lanes, rows * TOKENS, width_out, device="cuda", dtype=torch.bfloat16)
            found = {}
            for name, form in forms(width_in, width_out, lanes=lanes, rows=rows).items():
                try:
                    found[name] = microseconds(form, x, grad)
                except Exception as error:  # noqa: BLE001  (one form that fails is a line of the table)
                    print(layer, size, name, f"{type(error).__name__}: {error}"[:200], flush=True)
                x.grad = None
            figures.append({"layer": layer, "size": size, "us": found})
            print(layer, size, {name: round(us) for name, us in found.items()}, flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"card": torch.cuda.get_device_name(), "torch": torch.__version__, "figures": figures}, indent=1)
        )


if __name__ == "__main__":
    main()
