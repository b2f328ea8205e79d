"""Small models of every shape that users bring."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn


class Block(nn.Module):
    """Residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


class ResidualNet(nn.Module):
    """Stem, block, pooling, linear head called `fc`."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.block = Block(6)
        self.fc = nn.Linear(6, classes)

    def forward(self, x):
        return self.fc(self.block(torch.relu(self.stem(x))).mean((2, 3)))


class ConvHead(nn.Module):
    """1×1 convolution before global pooling, as SqueezeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 5, 3)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x):
        return self.head(torch.relu(self.stem(x))).mean((2, 3))


class Auxiliary(nn.Module):
    """Two linear layers of equal width, of which only the first makes the output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 7)
        self.main = nn.Linear(7, 3)
        self.other = nn.Linear(7, 3)

    def forward(self, x):
        hidden = torch.relu(self.body(x))
        out = self.main(hidden)
        return out, self.other(hidden)


@dataclass
class Answer:
    """A dataclass output."""

    hidden: torch.Tensor
    logits: torch.Tensor


class ModelOutput(OrderedDict):
    """As in transformers: a mapping whose values are attributes too."""

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


class Shaped(nn.Module):
    """An MLP whose output is wrapped by a function of (features, logits)."""

    def __init__(self, wrap) -> None:
        super().__init__()
        self.body = nn.Linear(4, 7)
        self.head = nn.Linear(7, 3)
        self.wrap = wrap

    def forward(self, x):
        hidden = torch.relu(self.body(x))
        return self.wrap(hidden, self.head(hidden))


WRAPS = {
    "tensor": lambda h, z: z,
    "tuple": lambda h, z: (z, h),
    "features_first": lambda h, z: (h, z),
    "loss_first": lambda h, z: (z.sum(), z),
    "list": lambda h, z: [z],
    "dict": lambda h, z: {"hidden": h, "logits": z},
    "plain_dict": lambda h, z: {"anything": z},
    "model_output": lambda h, z: ModelOutput(loss=None, logits=z),
    "dataclass": Answer,
}


@pytest.fixture
def make():
    """Return seeded models by name."""

    def build(name, **options):
        torch.manual_seed(0)
        kinds = {"residual": ResidualNet, "conv_head": ConvHead, "auxiliary": Auxiliary}
        return kinds[name](**options) if name in kinds else Shaped(WRAPS[name])

    return build
