"""Models and datasets that the tests register as `trace_factories:NAME`."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from mld_pipelines.tracing import LabeledDataset

CLASSES = 4


def make_model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64, CLASSES),
    )


def make_unseeded_model():
    return make_model(seed=int.from_bytes(os.urandom(4), "little"))


class NanModel(nn.Module):
    """Returns NaN for inputs whose mean is far from zero."""

    def __init__(self):
        super().__init__()
        self.inner = make_model()

    def forward(self, x):
        logits = self.inner(x)
        far = x.mean(dim=(1, 2, 3)) > 50
        return torch.where(far[:, None], torch.full_like(logits, float("nan")), logits)


class BrokenModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def make_model_without_weights():
    raise FileNotFoundError("weights.pt is missing")


def images(n):
    generator = np.random.default_rng(7)
    return generator.normal(size=(n, 1, 8, 8)).astype(np.float32), generator.integers(0, CLASSES, n)


class Images:
    """Sized and indexable; can misbehave at one index."""

    classes = ("zero", "one", "two", "three")

    def __init__(self, n=100, trouble_at=None, trouble=None, shift_at=None):
        self.pixels, self.labels = images(n)
        self.trouble_at, self.trouble = trouble_at, trouble
        if shift_at is not None:
            self.pixels[shift_at] += 100.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if index == self.trouble_at:
            if self.trouble == "kill":
                os._exit(1)
            raise OSError(f"cannot read image {index}")
        return self.pixels[index], self.labels[index], f"img-{index:04d}"


class ImageStream:
    """Iterable without a length, as a web dataset."""

    def __init__(self, n=100):
        self.n = n

    def __iter__(self):
        yield from zip(*images(self.n), strict=True)


def make_raw_images(n=100):
    """Bytes 0..255 with the preprocessing the model expects."""
    pixels, labels = images(n)
    raw = np.clip(pixels * 50 + 128, 0, 255).astype(np.uint8)
    return LabeledDataset(list(zip(raw, labels.tolist(), strict=True)), preprocess=scale)


def scale(batch):
    return (batch.float() - 128) / 50


def make_generator():
    return ((pixel, label) for pixel, label in zip(*images(3), strict=True))


def make_empty():
    return []


def make_number():
    return 5


def make_bad_labels():
    return [(np.zeros((1, 8, 8), np.float32), 0.5)]


def make_bad_items():
    return [np.zeros((1, 8, 8), np.float32)]
