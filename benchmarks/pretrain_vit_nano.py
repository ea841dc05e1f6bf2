"""Pretrain `vit_nano_cifar10`, the embedded backbone, on the CIFAR-10 training images.

Takes the images as an ImageFolder or as a tar of one, holds out 500 images a class, and writes the features
(the classifier is dropped) as safetensors. About 40 s an epoch on two cores:

    python benchmarks/pretrain_vit_nano.py --data cifar10_train.tar.xz --out vit_nano_cifar10.safetensors

The same seed and thread count give the same weights on the same machine. Axes: B batch, H height, W width, C channels.
"""

from __future__ import annotations

import argparse
import io
import math
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

HELD_OUT_PER_CLASS = 500
PAD = 4
CUTOUT = 8
ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Images:
    """Decoded images `x_BCHW` (uint8) with their classes `y_B`."""

    x_BCHW: Tensor
    y_B: Tensor

    def __len__(self) -> int:
        return len(self.y_B)


def read_files(source: Path) -> dict[str, bytes]:
    """Return ``{"class/file": bytes}`` of an ImageFolder, given as a folder or a tar."""
    if source.is_dir():
        return {"/".join(path.parts[-2:]): path.read_bytes() for path in source.rglob("*") if path.suffix.lower() in ENDINGS}
    with tarfile.open(source) as archive:
        members = (member for member in archive if member.isfile() and member.name.lower().endswith(ENDINGS))
        return {"/".join(Path(member.name).parts[-2:]): archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def load(source: Path, *, seed: int) -> tuple[Images, Images]:
    """Return the training and the held-out images.

    The rule: file names sorted, a seeded permutation a class, its first 500 are held out.
    """
    files = read_files(source)
    names = sorted(files)
    classes = sorted({name.split("/")[0] for name in names})
    x = torch.from_numpy(np.stack([np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")) for name in names]))
    y = torch.tensor([classes.index(name.split("/")[0]) for name in names])
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(names), dtype=torch.bool)
    for label in range(len(classes)):
        members = (y == label).nonzero().flatten()
        held[members[torch.randperm(len(members), generator=generator)[:HELD_OUT_PER_CLASS]]] = True
    x = x.permute(0, 3, 1, 2).contiguous()
    return Images(x[~held], y[~held]), Images(x[held], y[held])


def normalise(x_BCHW: Tensor) -> Tensor:
    """Map uint8 to [-1, 1]: mean 0.5 and standard deviation 0.5 a channel."""
    return x_BCHW.float().div_(127.5).sub_(1.0)


def augment(x_BCHW: Tensor, *, generator: torch.Generator) -> Tensor:
    """Shift by up to 4 pixels, flip, change contrast and brightness, turn a tenth grey, cut an 8-pixel square out of half."""
    n, _, height, width = x_BCHW.shape

    def draw(high: int) -> Tensor:
        return torch.randint(high, (n, 1), generator=generator)

    columns = draw(2 * PAD + 1) + torch.arange(width)
    columns = torch.where(draw(2).bool(), columns, columns.flip(1))
    rows = draw(2 * PAD + 1) + torch.arange(height)
    padded = nn.functional.pad(x_BCHW.float(), (PAD,) * 4, mode="reflect").permute(0, 2, 3, 1)
    x = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    x = normalise(x) * (0.7 + 0.6 * torch.rand(n, 1, 1, 1, generator=generator)) + 0.4 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
    x = torch.where((torch.rand(n, 1, 1, 1, generator=generator) < 0.1), x.mean(1, keepdim=True), x)
    inside_y = (torch.arange(height) - draw(height)).abs() < CUTOUT // 2
    inside_x = (torch.arange(width) - draw(width)).abs() < CUTOUT // 2
    hole = inside_y[:, :, None] & inside_x[:, None, :] & draw(2).bool()[:, :, None]
    return x.masked_fill(hole[:, None], 0.0)


def batches(images: Images, *, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield augmented batches in a fresh random order; the incomplete last one is left out."""
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(images) - batch_size + 1, batch_size):
        index = order[start : start + batch_size]
        yield augment(images.x_BCHW[index], generator=generator), images.y_B[index]


@torch.inference_mode()
def accuracy(model: nn.Module, images: Images) -> float:
    """Return the share of images classified right."""
    model.eval()
    chunks = zip(images.x_BCHW.split(500), images.y_B.split(500), strict=True)
    right = sum(int((model(normalise(x)).argmax(1) == y).sum()) for x, y in chunks)
    model.train()
    return right / len(images)


def save_features(model: nn.Module, path: Path, *, held_out_accuracy: float, epoch: int) -> None:
    """Write every tensor but the classifier's, to a temporary name that is then renamed."""
    state = {key: value.detach().clone() for key, value in model.state_dict().items() if not key.startswith("head.")}
    partial = path.with_suffix(".partial")
    metadata = {"epoch": str(epoch), "held_out_accuracy": f"{held_out_accuracy:.4f}", "data": "CIFAR-10 training images"}
    save_file(state, partial, metadata=metadata)
    partial.rename(path)


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, object]]:
    """Decay the matrices only: not biases, norms, tokens and position embeddings."""
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and "token" not in name and "pos_embed" not in name]
    kept = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in kept]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate(progress: float, *, peak: float) -> float:
    """Rise linearly over the first tenth of training, then fall along a cosine to zero."""
    if progress < 0.1:
        return peak * progress / 0.1
    return peak * 0.5 * (1.0 + math.cos(math.pi * (progress - 0.1) / 0.9))


def train(model: nn.Module, data: tuple[Images, Images], args: argparse.Namespace) -> None:
    """Train on the first of `data`, report on the second, save every `--save-every` epochs and at the end."""
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=args.weight_decay), betas=(0.9, 0.99), fused=True)
    generator = torch.Generator().manual_seed(args.seed + 1)
    steps_per_epoch = len(data[0]) // args.batch_size
    for epoch in range(args.epochs):
        started, total = time.perf_counter(), 0.0
        for step, (x, y) in enumerate(batches(data[0], batch_size=args.batch_size, generator=generator)):
            lr = learning_rate((epoch + (step + 1) / steps_per_epoch) / args.epochs, peak=args.lr)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = nn.functional.cross_entropy(model(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        held_out = accuracy(model, data[1])
        took_s = time.perf_counter() - started
        print(f"epoch {epoch + 1}/{args.epochs}  loss {total / steps_per_epoch:.4f}  held-out {held_out:.4f}  {took_s:.1f} s", flush=True)
        if (epoch + 1) % args.save_every == 0 or epoch + 1 == args.epochs:
            save_features(model, args.out, held_out_accuracy=held_out, epoch=epoch + 1)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ImageFolder of the CIFAR-10 training images, or a tar of one")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=4, help="epochs between checkpoints")
    return parser.parse_args()


def main() -> None:
    """Read, train, save."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data = load(args.data, seed=args.seed)
    print(f"{len(data[0])} images to train on, {len(data[1])} held out", flush=True)
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=112, depth=6, num_heads=4, num_classes=10)
    train(model, data, args)


if __name__ == "__main__":
    main()
