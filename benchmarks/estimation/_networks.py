"""The networks whose errors are estimated: a small convolutional net, a perceptron, a residual net for photographs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.estimation._datasets import Dataset

__all__ = ["Network", "run", "train"]

_BATCH, _ROWS = 64, 500
_WIDTHS = (24, 24, 48, 64)


class Network(nn.Module):
    """A body that makes features and a linear head.

    Args:
        body: Everything before the head.
        width: Features.
        n_classes: Outputs.
    """

    def __init__(self, body: nn.Module, width: int, n_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, n_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (N, K)."""
        logits: torch.Tensor = self.head(self.body(inputs))
        return logits


class _Residual(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut that halves the side."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(incoming, outgoing, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outgoing),
            nn.ReLU(),
            nn.Conv2d(outgoing, outgoing, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outgoing),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(incoming, outgoing, 1, 2, bias=False), nn.BatchNorm2d(outgoing))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the activated sum of both ways."""
        return torch.relu(self.branch(values) + self.shortcut(values))


class _Centred(nn.Module):
    """Brings pixels in [0, 1] to about zero mean and unit spread."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return `(x − 0.47) / 0.25`."""
        return (values - 0.47) / 0.25


@dataclass(frozen=True, slots=True)
class _Plan:
    rate: float
    epochs: int


_PLANS = {
    "p": _Plan(1e-3, 15), "n": _Plan(1e-3, 15), "g": _Plan(3e-3, 25), "t": _Plan(3e-3, 25), "b": _Plan(3e-3, 40),
}  # fmt: skip
_PHOTOGRAPHS = _Plan(0.15, 10)


def train(kind: str, data: Dataset, *, seed: int, epochs: int | None = None) -> Network:
    """Train the network of a kind of model on the training rows, one thread, repeatable.

    Args:
        kind: As in `load`.
        data: Its data.
        seed: Of weights, order and augmentation.
        epochs: None takes the protocol's.
    """
    torch.manual_seed(seed)
    network = _build(kind, data)
    rows = data.splits["train"]
    inputs, labels = torch.from_numpy(data.inputs[rows].copy()), torch.from_numpy(data.labels[rows].copy())
    if kind == "f":
        _train_photographs(network, inputs, labels, epochs=epochs or _PHOTOGRAPHS.epochs)
    else:
        _train_small(network, inputs, labels, rate=_PLANS[kind].rate, epochs=epochs or _PLANS[kind].epochs)
    return network.eval()


def run(network: Network, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return features (N, d) and logits (N, K), float32."""
    features, logits = [], []
    with torch.inference_mode():
        for start in range(0, len(inputs), _ROWS):
            body = network.body(torch.from_numpy(inputs[start : start + _ROWS]))
            features.append(body.numpy())
            logits.append(network.head(body).numpy())
    return np.concatenate(features), np.concatenate(logits)


def _build(kind: str, data: Dataset) -> Network:
    if kind == "f":
        stem = [_Centred(), nn.Conv2d(3, _WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(_WIDTHS[0]), nn.ReLU()]
        blocks = [_Residual(*pair) for pair in pairwise(_WIDTHS)]
        return Network(nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), _WIDTHS[-1], 10)
    if data.modality == "tabular":
        layers = [nn.Linear(data.inputs.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()]
        return Network(nn.Sequential(*layers), 32, data.n_classes)
    side = data.inputs.shape[-1] // 4
    convolutions = [nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU()]
    dense = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * side**2, 64), nn.ReLU()]
    return Network(nn.Sequential(*convolutions, *dense), 64, data.n_classes)


def _train_small(network: Network, inputs: torch.Tensor, labels: torch.Tensor, *, rate: float, epochs: int) -> None:
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels) - _BATCH // 2, _BATCH):
            rows = order[start : start + _BATCH]
            loss = functional.cross_entropy(network(inputs[rows]), labels[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()


def _train_photographs(network: Network, inputs: torch.Tensor, labels: torch.Tensor, *, epochs: int) -> None:
    """SGD under a one-cycle rate, with flips and shifts of up to four pixels."""
    optimiser = torch.optim.SGD(network.parameters(), _PHOTOGRAPHS.rate, 0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(labels) // (2 * _BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PHOTOGRAPHS.rate, steps)
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels) - 2 * _BATCH + 1, 2 * _BATCH):
            rows = order[start : start + 2 * _BATCH]
            loss = functional.cross_entropy(network(_augmented(inputs[rows])), labels[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()


def _augmented(images: torch.Tensor) -> torch.Tensor:
    """Mirror half of the images and move each by up to four pixels."""
    n, side = len(images), images.shape[-1]
    mirrored = torch.where((torch.rand(n) < 0.5)[:, None, None, None], images.flip(3), images)
    padded = functional.pad(mirrored, (4, 4, 4, 4), mode="reflect")
    across, down = (torch.randint(0, 9, (n, 1)) + torch.arange(side) for _ in range(2))
    return padded[torch.arange(n)[:, None, None], :, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)
