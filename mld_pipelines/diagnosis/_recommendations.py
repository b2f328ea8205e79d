"""What to do about a code, and how to see that it worked (docs/method.md#recommendations).

Data, shown by pages and SDK alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mld_pipelines.diagnosis._categories import CATEGORIES, CRITICAL, HOTSPOT, OPERATIONAL, REASONS, RECESSIVE, STABLE
from mld_pipelines.diagnosis._clues import Clues
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["METHODS", "Recommendation", "recommend"]

_PATTERN_ERRORS = 3
"""Errors below which a pattern among them is chance."""
_DOMINANT = 2 / 3
"""Share of the errors from which one confusion, or one predicted class, is what the code is about. Planted MNIST: of
nine critical codes made of planted shortcuts or corruptions the most frequent confusion holds 24–58 %."""
_SCATTERED_LABELS = 3
"""True classes from which "everything becomes this class" is more than a confusion. Those nine codes have 5 to 9, all
predicted as one class."""


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

_AUDIT = Recommendation(
    method="audit_labels",
    title="Audit the labels",
    actions=(
        "Check the labels of 20 of its errors: most are one confusion, and the model is sure of its answer.",
        "If the labels are wrong, correct them in training data, too, and retrain.",
        "If they are right, add examples that tell the two classes apart.",
        "Until it is fixed, reject or review this code in production: confidence will not warn.",
    ),
    verify="With corrected labels the unflagged error rate of the code is no longer surely above the tolerance.",
)

_SHORTCUT = Recommendation(
    method="find_shortcut",
    title="Find what overrides the content",
    actions=(
        "Look at 20 of its errors: several true classes become one prediction, with confidence.",
        "Search for what they share apart from their class: a marker, a background, a source, a corruption.",
        "Remove or mask it and predict again; add training examples of other classes that have it.",
        "Until it is fixed, reject or review this code in production: confidence will not warn.",
    ),
    verify="Inputs with the shared trait removed are predicted right, and in the next evaluation the unflagged error "
    "rate of the code is no longer surely above the tolerance.",
)

_SEPARATE = Recommendation(
    method="separate_classes",
    title="Separate two classes",
    actions=(
        "Most of its errors are one confusion: look at correct and wrong inputs of the two classes side by side.",
        "Check whether the labelling guideline separates them; add labelled examples on both sides of the border.",
        "Retrain; weigh the pair more, or raise the resolution of what tells them apart.",
    ),
    verify="The confusion leaves the top of the code's list, and its interval moves below the operational tolerance.",
)

_CONDITIONS = Recommendation(
    method="match_conditions",
    title="Bring the conditions into training",
    actions=(
        "Its errors lie farther from the training data than 95 % of the training data itself: name the condition.",
        "Add the condition (blur, noise, light, sensor, source) to the augmentation, or label inputs of it.",
        "If the condition is a defect, reject it before the model.",
    ),
    verify="After retraining its errors lie within the training data's reach, and the interval of the code's error "
    "rate moves below the operational tolerance.",
)

_HELD_OUT = Recommendation(
    method="trace_held_out",
    title="Trace held-out data",
    actions=(
        "Trace a labelled dataset that was not trained on: this coverage was counted on training data, which flatters.",
    ),
    verify="The next evaluation is decided by held-out data and the code is still covered.",
)

_UNDECIDABLE = Recommendation(
    method="refine_or_accept",
    title="Refine the region or accept the rate",
    actions=(
        "Its rate lies at a tolerance: even 10,000 more labels would not decide it. Do not label for a verdict.",
        "Look for two groups inside: split it by metadata, or evaluate with more codes (`units_per_code`).",
        "Otherwise treat it as not covered, or set the tolerance that your application can bear.",
    ),
    verify="A part of it, or the new tolerance, gets a verdict other than recessive in the next evaluation.",
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


METHODS: Mapping[str, Recommendation] = {
    method.method: method
    for method in (
        _CRITICAL, _AUDIT, _SHORTCUT, _HOTSPOT, _SEPARATE, _CONDITIONS, _ALEATORIC, *_RECESSIVE.values(),
        _UNDECIDABLE, _OPERATIONAL, _STABLE, _HELD_OUT,
    )
}  # fmt: skip
"""Every method by its key."""


def recommend(category: str, reason: str, *, is_aleatoric: bool = False, clues: Clues | None = None) -> Recommendation:
    """Return the recommended method for a code.

    The aleatoric overlay comes first: where ambiguity explains the errors, more data is the wrong advice. Then, for
    covered codes that another dataset contradicts and for undecided codes, the reason decides, else the category and
    what the errors have in common (docs/method.md#recommendations).

    Args:
        category: One of `CATEGORIES`.
        reason: One of `REASONS`.
        is_aleatoric: Whether the code is in the overlay.
        clues: What its errors have in common; without them the general method of the category.

    Raises:
        InvalidInputError: Unknown category or reason.
    """
    if category not in CATEGORIES or reason not in REASONS:
        raise InvalidInputError(
            f"no method for category {category!r} with reason {reason!r}; known are {CATEGORIES} and {REASONS}."
        )
    known = clues or Clues()
    if is_aleatoric:
        return _ALEATORIC
    if category == RECESSIVE or reason == "generalisation_gap":
        stuck = known.is_undecidable and reason in ("few_units", "between_tolerances")
        return _UNDECIDABLE if stuck else _RECESSIVE.get(reason, _RECESSIVE["between_tolerances"])
    if category in (STABLE, OPERATIONAL):
        return _HELD_OUT if reason == "train_only" else _BY_CATEGORY[category]
    return _by_clues(category, known)


def _by_clues(category: str, clues: Clues) -> Recommendation:
    """Return the method for a bad code whose errors show a pattern, else the general one."""
    if clues.n_errors < _PATTERN_ERRORS:
        return _BY_CATEGORY[category]
    if clues.confusion_share >= _DOMINANT:
        return _AUDIT if category == CRITICAL else _SEPARATE
    if category == CRITICAL and clues.sink_share >= _DOMINANT and clues.n_labels >= _SCATTERED_LABELS:
        return _SHORTCUT
    return _CONDITIONS if category == HOTSPOT and clues.is_far else _BY_CATEGORY[category]
