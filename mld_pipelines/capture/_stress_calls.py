"""Captured stressed copies and how they become rows of `landing/stress`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mld_pipelines.capture._calls import _Judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.capture._calls import Groups, Identity
    from mld_pipelines.capture._columns import Columns

__all__ = ["StressCall", "StressEncoder"]


class StressCall(NamedTuple):
    """N corrupted copies of one kind and severity, with what the model made of them, on the CPU.

    Attributes:
        scores: (N, K) float32.
        feature: (N, d) float32, or None.
        labels: (N,) int64, of the originals.
        input_ids: N strings: the originals.
        hashes: N SHA-256 digests of what the model was given.
        source_dataset: Dataset of the originals.
        n_epoch: Epoch, or None.
        family: Family of the corruption.
        kind: Corruption.
        severity: 1 to 5.
        seed: Seed of the stress pass.
        family_version: Version of the family.
        captured_at: When the forward pass ended, µs since 1970.
        fingerprint: Weights of the model.
        path: Where the scores were inside the output.
        feature_layer: Layer whose input is `feature`.
    """

    scores: NDArray[np.float32]
    feature: NDArray[np.float32] | None
    labels: NDArray[np.int64]
    input_ids: list[str]
    hashes: list[str]
    source_dataset: str
    n_epoch: int | None
    family: str
    kind: str
    severity: int
    seed: int
    family_version: str
    captured_at: int
    fingerprint: str
    path: str
    feature_layer: str | None


class StressEncoder:
    """Turns stressed copies into rows of `landing/stress`."""

    def __init__(self, identity: Identity) -> None:
        self._constant = identity.columns
        self._judge = _Judge()

    @property
    def output_kind(self) -> str:
        """What the model returns, as far as is known."""
        return self._judge.kind

    def __call__(self, calls: Sequence[StressCall]) -> Groups:
        """Return groups of calls with equal widths, in order."""
        return [self._group(list(group)) for _, group in groupby(calls, key=_shape)]

    def _group(self, calls: list[StressCall]) -> tuple[list[int], Columns]:
        lengths = [len(call.labels) for call in calls]
        first = calls[0]
        scores = np.concatenate([call.scores for call in calls])
        columns: Columns = {
            **self._constant,
            "source_dataset": first.source_dataset,
            "n_epoch": first.n_epoch,
            "input_id": [one for call in calls for one in call.input_ids],
            **{name: _spread(name, calls) for name in ("family", "kind", "family_version")},
            "severity": np.repeat(np.array([call.severity for call in calls], np.int32), lengths),
            "seed": np.repeat(np.array([call.seed for call in calls], np.int64), lengths),
            "captured_at": np.repeat(np.array([call.captured_at for call in calls], np.int64), lengths),
            "label": np.concatenate([call.labels for call in calls]),
            "fingerprint": first.fingerprint,
            "input_hash": [one for call in calls for one in call.hashes],
            "feature_layer": first.feature_layer,
            "feature": None
            if first.feature is None
            else np.concatenate([call.feature for call in calls if call.feature is not None]),
            **self._judge.columns(scores, first.path),
        }
        return lengths, columns


def _shape(call: StressCall) -> tuple[Any, ...]:
    width = None if call.feature is None else call.feature.shape[1]
    return call.scores.shape[1], width, call.source_dataset, call.n_epoch, call.fingerprint, call.path


def _spread(name: str, calls: Sequence[StressCall]) -> list[str]:
    return [text for call in calls for text in [str(getattr(call, name))] * len(call.labels)]
