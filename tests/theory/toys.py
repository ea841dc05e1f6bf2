"""Small functions whose derivatives are known, in the coordinates of the noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

DOUBLE = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=DOUBLE)


@dataclass
class Quadratic:
    """f(theta) = g^T theta + theta^T H theta / 2 around theta, as a function of z with theta - theta_0 = z * change.

    At z = 1 gradient and Hessian are g and H.
    """

    gradient: Tensor
    hessian: Tensor
    change: Tensor
    sigma: float = 1.0
    samples: int = 1

    def __post_init__(self):
        self.sigma_D = torch.full_like(self.change, self.sigma)

    def __call__(self, z_ND: Tensor) -> Tensor:
        shift = (z_ND - 1) * self.change
        return (shift @ self.gradient + 0.5 * ((shift @ self.hessian) * shift).sum(dim=1))[:, None]

    @property
    def squares(self) -> float:
        """A."""
        return float((self.change * self.gradient).square().sum())

    @property
    def hessian_squares(self) -> float:
        """B."""
        return float((torch.outer(self.change, self.change) * self.hessian).square().sum())


def quadratic(d: int = 12, *, sigma: float = 1.0, seed: int = 0) -> Quadratic:
    hessian = normal(d, d, seed=seed)
    return Quadratic(normal(d, seed=seed + 1), (hessian + hessian.T) / 2, 0.7 * normal(d, seed=seed + 2), sigma)


@dataclass
class TanhNet:
    """Two outputs of a layer of tanh units, all weights perturbed; third derivatives do not vanish."""

    inputs: Tensor
    first: Tensor
    second: Tensor
    change: Tensor
    sigma: float = 1.0
    scale: float = 1.0

    @property
    def samples(self) -> int:
        return len(self.inputs)

    def __post_init__(self):
        self.sigma_D = torch.full_like(self.change, self.sigma)

    def __call__(self, z_ND: Tensor) -> Tensor:
        x_NI = self.inputs.repeat(len(z_ND) // self.samples, 1)
        theta_ND = torch.cat([self.first.flatten(), self.second.flatten()]) + self.scale * (z_ND - 1) * self.change
        hidden, wide = self.first.shape
        first_NHI = theta_ND[:, : hidden * wide].view(-1, hidden, wide)
        second_NCH = theta_ND[:, hidden * wide :].view(len(z_ND), -1, hidden)
        return torch.bmm(second_NCH, torch.tanh(torch.bmm(first_NHI, x_NI[..., None])))[..., 0]


def tanh_net(*, samples: int = 3, scale: float = 1.0) -> TanhNet:
    first, second = normal(5, 4, seed=3), normal(2, 5, seed=4)
    return TanhNet(normal(samples, 4, seed=5), first, second, 0.5 * normal(first.numel() + second.numel(), seed=6), scale=scale)
