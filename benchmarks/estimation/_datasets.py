"""The data of the benchmark: nothing is downloaded, and what lies beside the repository may be absent."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PLANTED", "Dataset", "is_present", "load"]

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
_MNIST_IMAGES, _MNIST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"

PLANTED = ("natural", "aleatoric", "shortcut", "corruption", "tiny")
"""What a unit of the planted MNIST is, by the number in `Dataset.planted`."""

_ALEATORIC, _SHORTCUT, _CORRUPTION, _TINY = 0.06, 0.03, 0.04, 16
"""Shares of blends, of patched and of corrupted units, and the number of transposed ones, half in each split."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Inputs in the order train, reference, held out.

    Attributes:
        inputs: Images in [0, 1] as (N, C, H, W), or standardised columns (N, D); float32.
        labels: Class indices, `(N,)`.
        n_train: Rows trained on.
        n_reference: Rows after them that are the labelled reference; the rest is held out.
        modality: `"image"` or `"tabular"`: which corruption families fit.
        planted: Index into `PLANTED` of each row; None where nothing is planted.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    n_train: int
    n_reference: int
    modality: str
    planted: NDArray[np.int64] | None = None

    @property
    def n_classes(self) -> int:
        """Classes."""
        return int(self.labels.max()) + 1

    @property
    def splits(self) -> dict[str, slice]:
        """Rows of `train`, `reference` and `held_out`."""
        end = self.n_train + self.n_reference
        return {"train": slice(0, self.n_train), "reference": slice(self.n_train, end), "held_out": slice(end, None)}


def is_present(kind: str) -> bool:
    """Return whether the data of a kind of model (p, n, g, t, b or f) lies on this machine."""
    needed = {"p": _SHARED / "mnist" / _MNIST_IMAGES, "n": _SHARED / "mnist" / _MNIST_IMAGES}
    needed["f"] = _SHARED / "photos32" / "train.npz"
    return kind not in needed or needed[kind].exists()


def load(kind: str, seed: int) -> Dataset:
    """Return the data of a kind of model, shuffled by the seed.

    Args:
        kind: p planted MNIST, n MNIST, g digits, t six-class tables, b breast cancer, f photographs.
        seed: Seed of the permutation and of what is planted.
    """
    rng = np.random.default_rng(seed)
    if kind == "t":  # the generator shuffles by itself
        return _tables(seed)
    loaded = {"p": _mnist, "n": _mnist, "g": _digits, "b": _breast_cancer, "f": _photographs}[kind]()
    order = rng.permutation(len(loaded.labels))
    shuffled = replace(loaded, inputs=loaded.inputs[order], labels=loaded.labels[order])
    return plant(shuffled, rng) if kind == "p" else shuffled


def plant(clean: Dataset, rng: np.random.Generator) -> Dataset:
    """Return MNIST with four kinds of planted failures (`docs/estimation.md`).

    6 % blends of two digits with a label tossed between them; a white corner patch that in training only the digit 1
    has, on 3 % of the rest; blur and noise on 4 %; sixteen transposed digits.
    """
    from scipy.ndimage import gaussian_filter

    inputs, labels = clean.inputs.copy(), clean.labels.copy()
    planted = np.zeros(len(labels), dtype=np.int64)
    for row in np.flatnonzero(rng.random(len(labels)) < _ALEATORIC):
        other = rng.choice(np.flatnonzero(clean.labels != clean.labels[row]))
        inputs[row] = 0.5 * (clean.inputs[row] + clean.inputs[other])
        labels[row] = clean.labels[row] if rng.random() < 0.5 else clean.labels[other]
        planted[row] = 1
    ones = np.flatnonzero((clean.labels[: clean.n_train] == 1) & (planted[: clean.n_train] == 0))
    inputs[ones[: len(ones) * 9 // 10], :, 1:5, 1:5] = 1.0
    free = rng.permutation(np.arange(clean.n_train, len(labels))[planted[clean.n_train :] == 0])
    evaluated = len(labels) - clean.n_train
    bounds = np.cumsum([int(_SHORTCUT * evaluated), int(_CORRUPTION * evaluated), _TINY])
    patched, blurred, turned = np.split(free[: bounds[-1]], bounds[:-1])
    inputs[patched, :, 1:5, 1:5] = 1.0
    smooth = gaussian_filter(inputs[blurred], sigma=(0, 0, 2.2, 2.2), mode="constant")
    inputs[blurred] = np.clip(smooth + 0.35 * rng.standard_normal(smooth.shape), 0.0, 1.0)
    inputs[turned] = inputs[turned].transpose(0, 1, 3, 2)
    planted[patched], planted[blurred], planted[turned] = 2, 3, 4
    return replace(clean, inputs=inputs, labels=labels, planted=planted)


def _mnist() -> Dataset:
    raw = gzip.decompress((_SHARED / "mnist" / _MNIST_IMAGES).read_bytes())
    labels = gzip.decompress((_SHARED / "mnist" / _MNIST_LABELS).read_bytes())
    images = np.frombuffer(raw, dtype=np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32) / 255.0
    return Dataset(images, np.frombuffer(labels, dtype=np.uint8, offset=8).astype(np.int64), 3_000, 3_500, "image")


def _digits() -> Dataset:
    import torch
    from sklearn.datasets import load_digits

    found = load_digits()
    small = torch.from_numpy(found.images.astype(np.float32) / 16.0)[:, None]
    images = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear").numpy()
    return Dataset(images, found.target.astype(np.int64), 500, 600, "image")


def _tables(seed: int) -> Dataset:
    from sklearn.datasets import make_classification

    rows, labels = make_classification(
        12_000, 20, n_informative=10, n_redundant=4, n_classes=6, n_clusters_per_class=2, class_sep=1.4, flip_y=0.02,
        random_state=seed,
    )  # fmt: skip
    return Dataset(_standardised(rows), labels.astype(np.int64), 4_000, 3_500, "tabular")


def _breast_cancer() -> Dataset:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return Dataset(_standardised(found.data), found.target.astype(np.int64), 150, 200, "tabular")


def _photographs() -> Dataset:
    """All 21,000 photographs: 9,000 to train on, 3,000 reference, 9,000 for windows."""
    parts = [_decode(_SHARED / "photos32" / name) for name in ("train.npz", "test.npz")]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Dataset(images, labels, 9_000, 3_000, "image")


def _decode(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images (N, 3, 32, 32) in [0, 1] and labels of a file of JPEGs one behind the other."""
    from PIL import Image

    with np.load(path) as stored:
        data, offsets, labels = stored["jpeg"].tobytes(), stored["offsets"].tolist(), stored["labels"]
    files = (data[start:end] for start, end in pairwise(offsets))
    images = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in files])
    return images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255.0), labels.astype(np.int64)


def _standardised(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    return scaled
