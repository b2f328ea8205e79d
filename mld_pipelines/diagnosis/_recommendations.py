"""What to do about a code, and how to see that it worked (docs/method.md#recommendations).

Data, shown by pages and SDK alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mld_pipelines.diagnosis._categories import CATEGORIES, CRITICAL, HOTSPOT, OPERATIONAL, REASONS, RECESSIVE, STABLE
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Recommendation", "recommend"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One recommended method.

    Attributes:
        method: Stable key, stored in `recommended_method`.
        title: A few words for a table.
        actions: First steps, in order.
        verify: The observation that shows success.
    """

    method: str
    title: str
    actions: tuple[str, ...]
    verify: str


_CRITICAL = Recommendation(
    method="inspect_confident_errors",
    title="Inspect confident errors",
    actions=(
        "Look at 20 of its inputs side by side; note what they share.",
        "Audit their labels: confident disagreement is often a wrong label.",
        "Search for a shortcut (background, marker, source) that predicts the class without being it.",
        "Until it is fixed, reject or review this code in production: confidence will not warn.",
    ),
    verify="In the next evaluation the unflagged error rate of the code is no longer surely above the tolerance.",
)

_HOTSPOT = Recommendation(
    method="label_and_retrain",
    title="Label more of it and retrain",
    actions=(
        "Select inputs of this code with the DataFilter, label them and retrain.",
        "Read the confused class pairs; add examples on both sides.",
        "If a corruption is visible, add it to the augmentation.",
    ),
    verify="After retraining the interval of the code's error rate lies below the operational tolerance.",
)

_OPERATIONAL = Recommendation(
    method="monitor",
    title="Monitor",
    actions=("Set an alert on its share and estimated error rate.", "Add some of its inputs to the regression suite."),
    verify="The alert stays silent and the regression slice stays green.",
)

_STABLE = Recommendation(
    method="freeze_regression_slice",
    title="Freeze as a regression slice",
    actions=("Keep its inputs as a slice that every new version has to pass.",),
    verify="The slice test stays green in every later version.",
)

_ALEATORIC = Recommendation(
    method="reduce_ambiguity",
    title="Reduce ambiguity, not add data",
    actions=(
        "Have a second person annotate 20 of its inputs; refine the guideline where they disagree.",
        "Allow abstention, or merge classes nobody can tell apart.",
        "If the information is not in the input, improve the sensor or its resolution.",
    ),
    verify="Annotators agree more often on the code; more of the same data is not expected to help.",
)

_RECESSIVE: Mapping[str, Recommendation] = {
    "few_units": Recommendation(
        method="label_more",
        title="Label more of this code first",
        actions=("Select and label further inputs of this code: there are too few for any verdict.",),
        verify="With the added units the code leaves recessive.",
    ),
    "between_tolerances": Recommendation(
        method="label_to_decide",
        title="Label until it is decided",
        actions=(
            "Label further inputs of this code: its rate is too close to a tolerance for the evidence at hand.",
            "Meanwhile treat it as not covered.",
        ),
        verify="The interval no longer contains the operational tolerance and the code leaves recessive.",
    ),
    "generalisation_gap": Recommendation(
        method="close_generalisation_gap",
        title="Close the gap between datasets",
        actions=(
            "Compare the datasets that disagree: duplicates, leakage, another source or period.",
            "Regularise or augment; remove duplicates from training.",
        ),
        verify="Error rates of the code agree across datasets in the next evaluation.",
    ),
    "no_features": Recommendation(
        method="trace_features",
        title="Trace with features",
        actions=("Trace the model again with `feature_layer=`: without features there are no regions to judge.",),
        verify="The next evaluation has error codes.",
    ),
    "unseen": Recommendation(
        method="extend_reference",
        title="Extend the reference",
        actions=(
            "Look at these inputs: nothing in the reference resembles them.",
            "Label a sample and trace it, or reject such inputs in production.",
        ),
        verify="After the next evaluation their share of UNSEEN falls to the expected one.",
    ),
}

_BY_CATEGORY: Mapping[str, Recommendation] = {
    STABLE: _STABLE,
    OPERATIONAL: _OPERATIONAL,
    HOTSPOT: _HOTSPOT,
    CRITICAL: _CRITICAL,
}


def recommend(category: str, reason: str, *, is_aleatoric: bool = False) -> Recommendation:
    """Return the recommended method for a code.

    The aleatoric overlay comes first: where ambiguity explains the errors, more data is the wrong advice. Then, for
    covered codes that another dataset contradicts and for undecided codes, the reason decides, else the category.

    Args:
        category: One of `CATEGORIES`.
        reason: One of `REASONS`.
        is_aleatoric: Whether the code is in the overlay.

    Raises:
        InvalidInputError: Unknown category or reason.
    """
    if category not in CATEGORIES or reason not in REASONS:
        raise InvalidInputError(
            f"no method for category {category!r} with reason {reason!r}; known are {CATEGORIES} and {REASONS}."
        )
    if is_aleatoric:
        return _ALEATORIC
    if category == RECESSIVE or reason == "generalisation_gap":
        return _RECESSIVE.get(reason, _RECESSIVE["between_tolerances"])
    return _BY_CATEGORY[category]
