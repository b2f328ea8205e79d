"""Which dataset decides the categories (docs/method.md#decision-dataset)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.exceptions import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["PRODUCTION", "TRAIN", "Decision", "choose_decision_dataset", "weights_of"]

PRODUCTION = "production"
TRAIN = "train"
_PREFERRED = ("val", "valid", "validation", "test", "eval")


@dataclass(frozen=True, slots=True)
class Decision:
    """The deciding dataset and what a reader should know about the choice."""

    dataset: str
    warnings: tuple[str, ...] = ()

    @property
    def is_train(self) -> bool:
        """Whether training data had to decide, so that error rates are optimistic."""
        return self.dataset.lower() == TRAIN


def choose_decision_dataset(
    counts: Mapping[str, int], *, override: str | None = None, barred: Collection[str] = ()
) -> Decision:
    """Return the dataset whose counts decide.

    Args:
        counts: Units per dataset, production included.
        override: Name set in the policy.
        barred: Datasets whose weights changed while they were traced: they cannot decide.

    Raises:
        NotFoundError: The override was not traced.
        InvalidInputError: No dataset may decide.
    """
    warnings = tuple(
        f"the model's weights changed while {name!r} was traced: it does not decide."
        for name in sorted(barred)
        if name in counts
    )
    allowed = {name: n for name, n in counts.items() if name.lower() != PRODUCTION and name not in barred}
    if override is not None:
        return Decision(_overridden(override, allowed), warnings)
    if not allowed:
        raise InvalidInputError(
            f"none of the datasets {sorted(counts)} can decide: production never does, nor does one whose weights "
            "changed while it was traced. Trace a dataset again with fixed weights."
        )
    chosen = _by_name(allowed) or _largest_other(allowed)
    if chosen is None:
        chosen = next(name for name in allowed if name.lower() == TRAIN)
        warnings += ("only training data was traced: error rates are optimistic.",)
    return Decision(chosen, warnings)


def weights_of(frame: pl.DataFrame, dataset: str) -> tuple[str, tuple[str, ...]]:
    """Return the most frequent weights of a dataset, and a warning where the rows come from several.

    Args:
        frame: Columns `dataset_type` and `fingerprint`.
        dataset: The dataset that decides.
    """
    counted = frame.filter(pl.col("dataset_type") == dataset).group_by("fingerprint").len()
    ordered = counted.sort("len", "fingerprint", descending=[True, False])["fingerprint"].to_list()
    everywhere = frame["fingerprint"].n_unique()
    note = f"rows come from {everywhere} different sets of weights; the result is of the most frequent in {dataset!r}."
    return ordered[0], (note,) if everywhere > 1 else ()


def _overridden(override: str, allowed: Mapping[str, int]) -> str:
    if override not in allowed:
        raise NotFoundError(f"policy.decision_dataset is {override!r}, but only {sorted(allowed)} can decide.")
    return override


def _by_name(allowed: Mapping[str, int]) -> str | None:
    for wanted in _PREFERRED:
        for name in sorted(allowed):
            if name.lower() == wanted:
                return name
    return None


def _largest_other(allowed: Mapping[str, int]) -> str | None:
    others = [name for name in allowed if name.lower() != TRAIN]
    return min(others, key=lambda name: (-allowed[name], name), default=None)
