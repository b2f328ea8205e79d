"""Models and datasets that the tests register as `trace_factories:NAME`."""

from __future__ import annotations

import os
import time

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


def make_images(n=100):
    """Images in [0, 1]; the model is the one of `make_model`."""
    pixels = np.random.default_rng(11).random((n, 1, 8, 8)).astype(np.float32)
    labels = np.random.default_rng(12).integers(0, CLASSES, n)
    return [(pixels[i], int(labels[i]), f"img-{i:04d}") for i in range(n)]


def make_normalised_images(n=100):
    return LabeledDataset([((x - 0.5) / 0.25, y, i) for x, y, i in make_images(n)], normalize=(0.5, 0.25))


def make_mixed_images(n=100, bad_from=50):
    """From `bad_from` on the values lie outside [0, 1]: corruption refuses them."""
    return [(x * 3 if index >= bad_from else x, y, i) for index, (x, y, i) in enumerate(make_images(n))]


def make_table_model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, CLASSES))


def make_table(n=100):
    rows = np.random.default_rng(13).normal(size=(n, 6)).astype(np.float32)
    rows[:, 5] = np.arange(n) % 3  # counts stay whole
    return [(rows[i], i % CLASSES, i) for i in range(n)]


class PointModel(nn.Module):
    """Sees a batch of scans as (number of points, mean, spread)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.head = nn.Linear(9, CLASSES)

    def forward(self, scans):
        parts = [torch.cat([torch.tensor([len(s) / 100.0]), s.mean(0), s.std(0)]) for s in scans]
        return self.head(torch.stack(parts).float())


def make_scans(n=40, collate=True):
    rng = np.random.default_rng(14)
    scans = [rng.normal(size=(60 + i % 7, 4)).astype(np.float32) * 10 for i in range(n)]
    items = [(scan, i % CLASSES, i) for i, scan in enumerate(scans)]
    return LabeledDataset(items, collate=as_tensors if collate else None)


def as_tensors(scans):
    return [torch.as_tensor(scan) for scan in scans]


def my_families(kill=False):
    """Families of a user."""
    from mld_pipelines.stress import Family, Kind

    def blank(x, severity, rng):
        if kill and severity == 3:
            os._exit(1)
        return x * (rng.random(x.shape) > severity / 10).astype(x.dtype)

    return [
        Family("halving", (Kind("half", lambda x, severity, rng: x / (1 + severity)),), "mine", version="7"),
        Family("blanking", (Kind("blank", blank),), "mine"),
    ]


SLOW_START = 0.5


def families_that_start_slowly():
    """A family whose first call in a process takes half a second, as one that has to import something."""
    from mld_pipelines.stress import Family, Kind

    waits = iter([SLOW_START])

    def start_once(x, severity, rng):
        time.sleep(next(waits, 0.0))
        return x / (1 + severity)

    return (Family("slow", (Kind("starting", start_once),), "mine"),)


def killing_families():
    """One kind ends its process at severity 3."""
    return my_families(kill=True)
