"""The policy: every number of a diagnosis that is a convention and not a theorem."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from numbers import Real

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import MATCH_RULES

__all__ = ["ALGORITHM_VERSION", "LEVELS", "Policy"]

ALGORITHM_VERSION = "2"
"""Raised whenever the same inputs would give other codes, categories or probabilities."""

LEVELS = (0.8, 0.9, 0.95)
"""Interval levels with a width factor: measured at 0.9, by convention at the others (docs/method.md#interval)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Tolerances, evidence levels and bounds of one evaluation, stored with its result.

    Attributes:
        tau_stable: Largest error rate of *stable* coverage (docs/method.md#categories).
        tau_operational: Largest error rate of *operational* coverage; above it a code is bad.
        alpha: One minus the confidence that a verdict needs.
        n_min: Units below which no code is called a hotspot.
        decision_dataset: Dataset that decides, or None for the rule of docs/method.md#decision-dataset.
        matching: When a prediction of a 3D detector is right: `centre_distance` (2 m on the ground) or `bev_iou`
            (bird's-eye IoU of at least 0.5; docs/method.md#detection-errors).
        score_threshold: Operating threshold of a detector for all classes, or None for the best F1 of each on the
            reference (docs/method.md#operating-point).
        level: Level of the window interval, one of `LEVELS`.
        seed: Seed of every random step.
        sqrt_p_weight: Weight of √probabilities beside the features of a code (2: measured, docs/method.md#space).
        units_per_code: Reference units per code.
        codes_min: Fewest codes of a codebook.
        codes_max: Most codes of a codebook.
        n_ref_min: Reference units below which no codebook is stored (docs/method.md#number-of-codes).
        bank_limit: Rows of the neighbour bank.
        codebook_fit_limit: Rows that k-means is fitted on; all rows are assigned afterwards.
        feature_limit: Widest feature used as it is; wider ones are projected (docs/method.md#space).
        unseen_refit_floor: `UNSEEN` share that always counts as "outside the reference" …
        unseen_refit_factor: … or this multiple of the share expected on reference-like inputs
            (docs/method.md#cross-fitting).
        unseen_reevaluate_floor: The same pair for the re-evaluation trigger.
        unseen_reevaluate_factor: The same pair for the re-evaluation trigger.
        reevaluate_labels: Labels since the last result that trigger a re-evaluation alone.
        reevaluate_labels_shifted: Labels that suffice when the estimate has left the reference band.
        reevaluate_windows: Windows that the estimate has to be outside the band.
        reevaluate_cooldown_seconds: Rest between two automatic re-evaluations.
        stress_max_seconds: Estimated cost up to which a stress pass starts by itself.
        algorithm_version: Version of the algorithms that the numbers belong to.

    Raises:
        InvalidInputError: A value is outside its range or of the wrong type.

    Example:
        >>> Policy(tau_operational=0.3).tau_operational
        0.3
    """

    tau_stable: float = 0.05
    tau_operational: float = 0.20
    alpha: float = 0.05
    n_min: int = 20
    decision_dataset: str | None = None
    matching: str = "centre_distance"
    score_threshold: float | None = None
    level: float = 0.9
    seed: int = 0
    sqrt_p_weight: float = 2.0
    units_per_code: int = 50
    codes_min: int = 8
    codes_max: int = 512
    n_ref_min: int = 60
    bank_limit: int = 10_000
    codebook_fit_limit: int = 12_800
    feature_limit: int = 256
    unseen_refit_floor: float = 0.10
    unseen_refit_factor: float = 3.0
    unseen_reevaluate_floor: float = 0.05
    unseen_reevaluate_factor: float = 2.0
    reevaluate_labels: int = 200
    reevaluate_labels_shifted: int = 50
    reevaluate_windows: int = 3
    reevaluate_cooldown_seconds: int = 6 * 3600
    stress_max_seconds: int = 900
    algorithm_version: str = ALGORITHM_VERSION

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            _check_type(field.name, str(field.type), getattr(self, field.name))
        for name in ("tau_stable", "tau_operational", "alpha", "unseen_refit_floor", "unseen_reevaluate_floor"):
            _require(0.0 < getattr(self, name) < 1.0, name, getattr(self, name), "a number between 0 and 1, exclusive")
        for name in _COUNTS:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of at least 1")
        for name in ("sqrt_p_weight", "unseen_refit_factor", "unseen_reevaluate_factor"):
            _require(0.0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "a finite number >= 0")
        _require(self.matching in MATCH_RULES, "matching", self.matching, f"one of {', '.join(MATCH_RULES)}")
        if self.score_threshold is not None:
            _require(0.0 <= self.score_threshold <= 1.0, "score_threshold", self.score_threshold, "between 0 and 1")
        _require(self.alpha <= 0.5, "alpha", self.alpha, "at most 0.5")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "an integer in [0, 2**32)")
        _require(self.level in LEVELS, "level", self.level, f"one of {LEVELS}")
        _require(self.codes_max <= 4096, "codes_max", self.codes_max, "at most 4096")
        _require(bool(self.algorithm_version), "algorithm_version", self.algorithm_version, "a non-empty string")
        _require(self.decision_dataset != "", "decision_dataset", "", "a dataset name or None")
        _require_order(self, "tau_stable", "tau_operational")
        _require_order(self, "codes_min", "codes_max")
        _require_order(self, "codes_max", "codebook_fit_limit")

    def to_json(self) -> str:
        """Return the policy as JSON with sorted keys: equal policies give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Return the policy that `to_json` wrote; fields it lacks take today's default.

        Raises:
            InvalidInputError: The text is no JSON object, or holds an unknown field or a bad value.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InvalidInputError(f"the policy is not valid JSON ({error}); nothing was evaluated.") from error
        if not isinstance(values, dict):
            raise InvalidInputError(f"the policy must be a JSON object, got {type(values).__name__}.")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidInputError(f"unknown policy fields {unknown}; the known ones are {sorted(known)}.")
        return cls(**values)


_COUNTS = (
    "n_min", "units_per_code", "codes_min", "codes_max", "n_ref_min", "bank_limit", "codebook_fit_limit",
    "feature_limit", "reevaluate_labels", "reevaluate_labels_shifted", "reevaluate_windows",
    "reevaluate_cooldown_seconds", "stress_max_seconds",
)  # fmt: skip


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise InvalidInputError(f"policy field {name} is {value!r}; it must be {wanted}. Nothing was evaluated.")


def _require_order(policy: Policy, lower: str, upper: str) -> None:
    low, high = getattr(policy, lower), getattr(policy, upper)
    if low > high:
        raise InvalidInputError(f"policy field {lower} ({low}) exceeds {upper} ({high}). Nothing was evaluated.")


def _check_type(name: str, annotation: str, value: object) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    accepted = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": is_number,
        "str": isinstance(value, str),
        "str | None": value is None or isinstance(value, str),
        "float | None": value is None or is_number,
    }
    _require(accepted[annotation], name, value, f"of type {annotation}")
