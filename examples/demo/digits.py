"""Data and model: scikit-learn's bundled digits and a small convolutional network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["CLASS_NAMES", "Digits", "SmallNet", "load_digits", "train"]

CLASS_NAMES = tuple(str(digit) for digit in range(10))
SEED = 0
EPOCHS = 14
BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """One part of the data: images (N, 1, 8, 8) float32 in [0, 1], labels (N,), ids that name the images for ever."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.int64]) -> Digits:
        """Return the images at these positions."""
        return Digits(self.images[rows], self.labels[rows], self.ids[rows])


class SmallNet(torch.nn.Module):
    """Two convolutions, a 32-dimensional feature, one linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 12, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(12, 24, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(24 * 16, 32),
            torch.nn.ReLU(),
        )
        self.head = torch.nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, 10)."""
        logits: torch.Tensor = self.head(self.body(images))
        return logits


def load_digits() -> tuple[Digits, Digits, Digits]:
    """Return training, validation and production images: 300, 700 and 797 of the 1,797, drawn with a fixed seed."""
    from sklearn.datasets import load_digits as bundled

    data = bundled()
    images = (data.images[:, None] / 16.0).astype(np.float32)
    order = np.random.default_rng(SEED).permutation(len(images))
    whole = Digits(images, data.target.astype(np.int64), np.arange(len(images)))
    train_rows, val_rows, rest = np.split(order, [300, 1000])
    return whole.take(train_rows), whole.take(val_rows), whole.take(rest)


def train(data: Digits) -> SmallNet:
    """Train the network: Adam, 14 epochs, one thread and a fixed seed, so that every run gives the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = SmallNet()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    order = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        for rows in np.array_split(order.permutation(len(data.labels)), len(data.labels) // BATCH):
            loss = torch.nn.functional.cross_entropy(
                model(torch.from_numpy(data.images[rows])), torch.from_numpy(data.labels[rows])
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    torch.set_num_threads(threads)
    return model.eval()
