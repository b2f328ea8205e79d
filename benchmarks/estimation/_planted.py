"""Weaknesses planted on purpose: does one of the first ten issues show them?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._datasets import load
from mld_pipelines.diagnosis import CodebookIdentity, Policy, fit_codebook
from mld_pipelines.metrics import unit_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.estimation._datasets import Dataset
    from benchmarks.estimation._networks import Network

    Rows = NDArray[np.int64]
    Slice = Callable[[Dataset, Rows, np.random.Generator], tuple[Dataset, Rows]]

__all__ = ["SLICES", "Recovery", "recover"]

_ISSUES, _NEAREST = 10, 10
_ABSENT_STEP = 3.5
"""Distance of a rare mode of a table from the centre, in standard deviations along a random direction."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of one planted slice.

    Attributes:
        data: `digits` or `table`.
        seed: Seed of network and planting.
        name: Its name.
        is_alone: Whether nothing else was planted.
        share: Its share of the reference.
        error_rate: Of its units.
        purity: Of the first ten issues' ten units nearest their centroid, the largest share that belongs to it.
        examples: The same among the wrong units only, which an issue shows as its examples.
        rank: Place of the issue behind `purity`, from 1.
    """

    data: str
    seed: int
    name: str
    is_alone: bool
    share: float
    error_rate: float
    purity: float
    examples: float
    rank: int


def recover(kind: str, seed: int, *, epochs: int | None = None) -> list[Recovery]:
    """Plant each slice alone and then all together, and look for them among the issues.

    Args:
        kind: `n` (MNIST) or `t` (tables).
        seed: Of network and planting.
        epochs: None trains as long as the protocol says.
    """
    from benchmarks.estimation._networks import train

    clean = load(kind, seed)
    if kind == "t":
        clean = _with_free_column(clean)
    leaning = _with_shortcut(clean)
    networks = {
        False: train(kind, clean, seed=seed, epochs=epochs),
        True: train(kind, leaning, seed=seed, epochs=epochs),
    }
    found = []
    for names in [*((name,) for name in SLICES), tuple(SLICES)]:
        planted, members = _plant(clean, names, np.random.default_rng(seed + 50))
        network = networks["shortcut" in names]
        codes, distance, errors = _search(network, planted)
        for name, rows in members.items():
            purity, rank = _best_issue(codes, distance, errors, rows)
            found.append(
                Recovery(
                    data="digits" if kind == "n" else "table",
                    seed=seed,
                    name=name,
                    is_alone=len(names) == 1,
                    share=len(rows) / clean.n_reference,
                    error_rate=float(errors[rows].mean()),
                    purity=purity,
                    examples=_best_issue(codes, distance, errors, rows, among=errors)[0],
                    rank=rank,
                )
            )
    return found


def _plant(data: Dataset, names: tuple[str, ...], rng: np.random.Generator) -> tuple[Dataset, dict[str, Rows]]:
    """Plant slices in disjoint rows of the reference; rows are counted from its start."""
    free = np.arange(data.n_reference)
    members = {}
    for name in names:
        data, rows = SLICES[name](data, free, rng)
        members[name] = rows
        free = np.setdiff1d(free, rows)
    return data, members


def _search(network: Network, data: Dataset) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Code of each reference unit, its distance to the centroid, and whether it is wrong."""
    from benchmarks.estimation._networks import run

    part = data.splits["reference"]
    features, logits = run(network, data.inputs[part])
    identity = CodebookIdentity(
        model_name="planted", fingerprint="b" * 64, feature_layer="head", feature_dim=features.shape[1],
        output_kind="logits", n_classes=logits.shape[1], sqrt_p_weight=Policy().sqrt_p_weight,
    )  # fmt: skip
    fit = fit_codebook(features, unit_statistics(logits=logits).probabilities, identity=identity, policy=Policy())
    if fit is None:
        raise RuntimeError(f"{len(features)} units are too few for a codebook")
    return fit.assignment.index, fit.assignment.distance, logits.argmax(axis=1) != data.labels[part]


def _best_issue(
    codes: NDArray[np.int64],
    distance: NDArray[np.float64],
    errors: NDArray[np.bool_],
    members: Rows,
    *,
    among: NDArray[np.bool_] | None = None,
) -> tuple[float, int]:
    """Largest share of a slice among an issue's nearest units, and the issue's place.

    Args:
        codes: Code of each unit, −1 for `UNSEEN`.
        distance: To its centroid.
        errors: Whether it is wrong; issues are codes by falling errors beyond the average rate, as in `get_issues`.
        members: Units of the slice.
        among: Units that are looked at; None looks at all.
    """
    found = codes >= 0
    excess = np.bincount(codes[found], errors[found] - errors.mean())
    shares = []
    for issue in np.argsort(-excess, kind="stable")[:_ISSUES]:
        units = np.flatnonzero((codes == issue) if among is None else (codes == issue) & among)
        nearest = units[np.argsort(distance[units], kind="stable")[:_NEAREST]]
        shares.append(float(np.isin(nearest, members).mean()) if len(nearest) else 0.0)
    best = int(np.argmax(shares))
    return shares[best], best + 1


def _mislabelled(data: Dataset, free: Rows, rng: np.random.Generator) -> tuple[Dataset, Rows]:
    """3 %: the nearest neighbours, among their class, of one unit get the label of another class."""
    inputs, labels = _reference(data)
    count = round(0.03 * data.n_reference)
    one = int(rng.choice(np.flatnonzero(np.bincount(labels[free]) >= 2 * count)))
    own = free[labels[free] == one]
    flat = inputs[own].reshape(len(own), -1)
    rows = own[np.argsort(((flat - flat[rng.integers(len(own))]) ** 2).sum(axis=1))[:count]]
    return _changed(data, rows, labels=np.full(count, (one + 1) % data.n_classes)), rows


def _corrupted(data: Dataset, free: Rows, rng: np.random.Generator) -> tuple[Dataset, Rows]:
    """4 %: blurred noisy images; five columns of a table that all read 3."""
    from scipy.ndimage import gaussian_filter

    rows = rng.choice(free, round(0.04 * data.n_reference), replace=False)
    values = _reference(data)[0][rows].copy()
    if data.modality == "image":
        smooth = gaussian_filter(values, sigma=(0, 0, 2.2, 2.2), mode="constant")
        values = np.clip(smooth + 0.35 * rng.standard_normal(smooth.shape), 0.0, 1.0)
    else:
        values[:, rng.choice(data.inputs.shape[1] - 1, 5, replace=False)] = 3.0
    return _changed(data, rows, inputs=values), rows


def _rare(share: float) -> Slice:
    """A look of one class that training never showed: mirrored digits, a cluster of its own in a table."""

    def plant(data: Dataset, free: Rows, rng: np.random.Generator) -> tuple[Dataset, Rows]:
        inputs, labels = _reference(data)
        count = round(share * data.n_reference)
        if data.modality == "image":
            one = int(rng.choice((2, 3, 5, 7)))
            rows = rng.choice(free[labels[free] == one], count, replace=False)
            return _changed(data, rows, inputs=inputs[rows][..., ::-1]), rows
        rows = rng.choice(free, count, replace=False)
        direction = rng.standard_normal(inputs.shape[1]) * (np.arange(inputs.shape[1]) < inputs.shape[1] - 1)
        centre = _ABSENT_STEP * direction / np.linalg.norm(direction)
        means = np.stack([inputs[labels == one].mean(axis=0) for one in range(data.n_classes)])
        far = int(np.argmax(((means - centre) ** 2).sum(axis=1)))
        values = centre + 0.3 * rng.standard_normal((count, inputs.shape[1])) * (direction != 0.0)
        return _changed(data, rows, inputs=values, labels=np.full(count, far)), rows

    return plant


def _shortcut(data: Dataset, free: Rows, rng: np.random.Generator) -> tuple[Dataset, Rows]:
    """3 %: the mark that in training only one class has (a corner patch, a column), on other classes."""
    inputs, labels = _reference(data)
    rows = rng.choice(free[labels[free] != 1], round(0.03 * data.n_reference), replace=False)
    return _changed(data, rows, inputs=_marked(inputs[rows])), rows


SLICES: dict[str, Slice] = {
    "mislabelled region": _mislabelled,
    "corrupted sub-population": _corrupted,
    "rare mode 3 %": _rare(0.03),
    "rare mode 1 %": _rare(0.01),
    "shortcut": _shortcut,
}
"""What is planted, by name, in the reference of a model that has not seen it (the shortcut's mark excepted)."""


def _with_free_column(data: Dataset) -> Dataset:
    """A table with one more column, noise around 0, for the shortcut."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((len(data.inputs), 1))
    return replace(data, inputs=np.concatenate([data.inputs, noise.astype(np.float32)], axis=1))


def _with_shortcut(data: Dataset) -> Dataset:
    """Training data in which nine of ten units of class 1, and no others, carry the mark."""
    ones = np.flatnonzero(data.labels[: data.n_train] == 1)
    rows = ones[: len(ones) * 9 // 10]
    inputs = data.inputs.copy()
    inputs[rows] = _marked(inputs[rows])
    return replace(data, inputs=inputs)


def _marked(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    values = inputs.copy()
    if values.ndim == 4:
        values[:, :, 1:5, 1:5] = 1.0
    else:
        values[:, -1] = 3.0
    return values


def _reference(data: Dataset) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    part = data.splits["reference"]
    return data.inputs[part], data.labels[part]


def _changed(
    data: Dataset,
    rows: Rows,
    *,
    inputs: NDArray[np.floating] | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Dataset:
    new_inputs, new_labels = data.inputs, data.labels
    if inputs is not None:
        new_inputs = new_inputs.copy()
        new_inputs[data.n_train + rows] = inputs
    if labels is not None:
        new_labels = new_labels.copy()
        new_labels[data.n_train + rows] = labels
    return replace(data, inputs=new_inputs, labels=new_labels)
