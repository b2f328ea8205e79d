"""Recognise what a classification model returns: where the scores are and what kind they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["OutputKind", "ScorePath", "Verdict", "judge_scores", "score_candidates"]

OutputKind = Literal["logits", "probabilities", "log_probs"]

_KEYS = ("logits", "log_probs", "probs", "probabilities", "scores", "pred", "preds", "out", "output")
"""Names that libraries give the class scores, tried in this order before anything else in a mapping."""

_SUM_TOLERANCE = 5e-3
"""A half-precision softmax over 1,000 classes sums to 1 within 2e-3; logits miss 1 by orders of magnitude."""

_SIGMOIDS = (
    "all scores lie in [0, 1] and rows do not sum to 1, as with sigmoids; they are read as logits, so confidence and "
    "entropies mean little: return logits, or probabilities that sum to 1"
)


@dataclass(frozen=True, slots=True)
class ScorePath:
    """Where the class scores are inside a model's output.

    Attributes:
        steps: Keys, indices or attribute names from the output to the tensor; empty when it is the tensor.
        output_type: Type of the output the path was found in.
    """

    steps: tuple[str | int, ...]
    output_type: type

    def follow(self, output: Any) -> Any:
        """Return the scores of an output of the same shape as the one the path was found in."""
        for step in self.steps:
            output = _step(output, step)
        return output

    def __str__(self) -> str:
        """Readable path, e.g. `output.logits`."""
        return "output" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What kind of scores a batch holds, and why.

    Attributes:
        kind: `logits`, `probabilities` or `log_probs`.
        evidence: The observation that decided, with its number.
        doubt: What speaks against it, for the user to hear; None where nothing does.
    """

    kind: OutputKind
    evidence: str
    doubt: str | None = None


def score_candidates(output: Any) -> list[tuple[ScorePath, torch.Tensor]]:
    """Return the float tensors of an output that can be class scores (N, K ≥ 2), the likeliest first.

    Args:
        output: Tensor, tuple, list, mapping, dataclass, or an object with a `logits` attribute.

    Raises:
        InvalidInputError: Nothing in the output has the shape (N, K) with K ≥ 2.
    """
    found = [(ScorePath(steps, type(output)), value) for steps, value in _walk((), output) if _is_scores(value)]
    if not found:
        raise InvalidInputError(
            f"the model returned {_describe(output)}, in which no float tensor of shape (N, K ≥ 2) was found; "
            "return one score per class and input, as a tensor or inside a tuple, mapping or dataclass."
        )
    return found


def judge_scores(scores: NDArray[np.float32]) -> Verdict | None:
    """Conclude from the values what the scores are; None if no row is finite.

    Args:
        scores: (N, K) as the model returned them.
    """
    rows = scores[np.isfinite(scores).all(axis=1)].astype(np.float64)
    if not len(rows):
        return None
    sums = rows.sum(axis=1)
    gap = float(np.abs(sums - 1.0).max())
    if rows.min() >= 0.0 and gap <= _SUM_TOLERANCE:
        return Verdict("probabilities", f"all rows >= 0 and sum to 1 (largest gap {gap:.0e}, {len(rows)} rows)")
    if rows.max() <= 0.0:
        gap = float(np.abs(np.exp(rows).sum(axis=1) - 1.0).max())
        if gap <= _SUM_TOLERANCE:
            return Verdict("log_probs", f"exp of all rows sums to 1 (largest gap {gap:.0e}, {len(rows)} rows)")
    is_squeezed = bool(rows.min() >= 0.0 and rows.max() <= 1.0)
    return Verdict(
        "logits",
        f"rows do not sum to 1 (first row sums to {sums[0]:.3g}, {len(rows)} rows{', all in [0, 1]' * is_squeezed})",
        _SIGMOIDS if is_squeezed else None,
    )


def _walk(steps: tuple[str | int, ...], value: Any) -> list[tuple[tuple[str | int, ...], Any]]:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return [(steps, value)]
    children: list[tuple[str | int, Any]]
    if isinstance(value, Mapping):
        names = [key for key in _KEYS if key in value] + [key for key in value if key not in _KEYS]
        children = [(key, value[key]) for key in names]
    elif hasattr(value, "_fields") and isinstance(value, tuple):
        children = [(name, getattr(value, name)) for name in value._fields]  # type: ignore[attr-defined]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        children = list(enumerate(value))
    elif is_dataclass(value):
        names = sorted((f.name for f in fields(value)), key=lambda name: name not in _KEYS)
        children = [(name, getattr(value, name)) for name in names]
    elif hasattr(value, "logits"):
        children = [("logits", value.logits)]
    else:
        return []
    deep = len(steps) < 2  # outputs nest at most once in practice; deeper structures are caches and states
    return [found for step, child in children for found in (_walk((*steps, step), child) if deep else [])]


def _step(value: Any, step: str | int) -> Any:
    if isinstance(step, str) and not isinstance(value, Mapping):
        return getattr(value, step)
    return value[step]


def _is_scores(value: Any) -> bool:
    if not getattr(value, "is_floating_point", lambda: False)():
        return False
    shape = tuple(value.shape)
    return len(shape) >= 2 and shape[1] >= 2 and all(size == 1 for size in shape[2:])


def _describe(output: Any) -> str:
    if hasattr(output, "shape"):
        return f"a {type(output).__name__} of shape {tuple(output.shape)} and dtype {getattr(output, 'dtype', '?')}"
    shapes = [f"{'.'.join(map(str, steps))}: {tuple(v.shape)}" for steps, v in _walk((), output)]
    return f"a {type(output).__name__} ({', '.join(shapes) or 'without tensors'})"
