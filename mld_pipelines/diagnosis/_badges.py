"""What a reader must know about an estimate, in the words shown beside it (docs/method.md#badges)."""

from __future__ import annotations

__all__ = [
    "ASSUMED_MISSES",
    "CONFIDENCE_IS_BETTER",
    "FEW_ERRORS",
    "FEW_FRAMES",
    "FEW_UNITS",
    "FEW_WINDOW_UNITS",
    "MANY_TIES",
    "NOT_VERIFIED_UNDER_SHIFT",
    "NO_CANDIDATES",
    "NO_ERRORS",
    "NO_FEATURES",
    "NO_SUCCESSES",
    "ONE_CLASS",
    "ONLY_CONFIDENCE",
    "OUTSIDE_REFERENCE",
    "PARTLY_VERIFIED",
]

NO_ERRORS = "no errors seen"
NO_SUCCESSES = "no successes seen"
FEW_ERRORS = "few errors"
FEW_UNITS = "few units"
FEW_WINDOW_UNITS = "few units in the window"
MANY_TIES = "many units share one error probability"
ONE_CLASS = "one predicted class"
NO_FEATURES = "no features"
ONLY_CONFIDENCE = "only the confidence varies"
CONFIDENCE_IS_BETTER = "confidence is the better score"
NOT_VERIFIED_UNDER_SHIFT = "not verified under shift"
PARTLY_VERIFIED = "under some kinds of shift the interval did not hold"
OUTSIDE_REFERENCE = "inputs outside the reference; the estimate may be too low"
FEW_FRAMES = "few frames"
NO_CANDIDATES = "no candidates visible"
ASSUMED_MISSES = "misses that no candidate shows are assumed as in the reference"
