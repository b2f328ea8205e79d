"""What to do about a code of boxes, and how to see that it worked (docs/method.md#recommendations).

Advice follows from the category and from what the errors of the code have in common: their type, and whether they are
far, small or made of few points. Methods that are right for any task are those of `recommend`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.diagnosis._categories import CATEGORIES, CRITICAL, HOTSPOT, REASONS, RECESSIVE
from mld_pipelines.diagnosis._recommendations import METHODS, Recommendation, recommend
from mld_pipelines.diagnosis.detection._clues import BoxClues
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DETECTION_METHODS", "find_method", "recommend_for_boxes"]

_PATTERN_ERRORS = 3
"""Errors below which a pattern among them is chance."""
_GENERAL = ("unseen", "no_features", "generalisation_gap")
"""Reasons of undecided codes whose method is the same for any task."""
_DOMINANT = 0.5
"""Share of the errors above which a type, or a candidate near the object, is what the code is about: the majority."""

_BOXES = Recommendation(
    method="inspect_wrong_boxes",
    title="Inspect its boxes in the scene",
    actions=(
        "Draw 20 of its wrong boxes over points and true boxes; sort them by what went wrong.",
        "Split the code by class and range in `get_view`: one of them usually holds most of the errors.",
        "Collect and label frames of that group and retrain.",
    ),
    verify="After retraining the interval of the code's error rate lies below the operational tolerance.",
)

_NEGATIVES = Recommendation(
    method="add_hard_negatives",
    title="Add hard negatives",
    actions=(
        "Most of its errors stand where nothing is: look at 20 of them for what they mistake (poles, bushes, walls).",
        "Add the frames they are in, and frames of the same places without objects, to the training data.",
        "Do what static clutter cannot survive: more sweeps, a map or ground filter, tracking over two frames.",
        "Until then raise the threshold of the class for this range.",
    ),
    verify="Background errors leave the top of the code's list at the same recall of its class.",
)

_UNLABELLED = Recommendation(
    method="find_unlabelled_objects",
    title="Look for unlabelled objects",
    actions=(
        "Most of its errors stand where nothing is labelled, and their scores are high: draw 20 of them over points "
        "and camera. Many confident background errors are objects that nobody labelled.",
        "If so, complete the labels (occluded, few points, beyond the labelled range) and evaluate again first.",
        "If nothing is there, add those frames as hard negatives: reflections, mirrors, posters, parked clutter.",
    ),
    verify="With completed labels the share of background errors in the code falls without retraining.",
)

_PLACE = Recommendation(
    method="refine_boxes",
    title="Refine place and size",
    actions=(
        "Most of its errors are at an object of their class, but not well enough for a match (2 to 4 m off, or a "
        "bird's-eye IoU of 0.1 to 0.5): look in which direction, size or heading they are off.",
        "Along the ray: add depth cues (sweeps, cameras). Along the heading: long objects of which one end is seen.",
        "Weigh the box regression more, or fit anchor sizes to the class; refine in a second stage.",
        "Check the quality of the true boxes of this class and range: half a metre there bounds what can be learned.",
    ),
    verify="Localisation errors leave the top of the code's list, and ATE of its class falls.",
)

_BOX_LABELS = Recommendation(
    method="audit_boxes",
    title="Audit the true boxes",
    actions=(
        "Most of its errors are confident boxes near the labelled one, but no match: draw 20 pairs over the points.",
        "If points fit the prediction, correct the labels; look for a time shift between sensor and annotation.",
        "If points fit the label, look for what shifts the box: partly seen long vehicles, moving objects in sweeps.",
    ),
    verify="With corrected boxes, or compensated motion, the error rate of the code falls below the tolerance.",
)

_DUPLICATES = Recommendation(
    method="suppress_duplicates",
    title="Suppress duplicates",
    actions=(
        "Most of its errors are second boxes of an object that is found already.",
        "Lower the overlap from which NMS suppresses (`iou_thresh`), or the radius of circle NMS, for this class.",
        "If the two boxes come from different heads or tasks, suppress across them: NMS per task keeps both.",
        "For long objects suppress by distance along the heading, where overlap of partial boxes is small.",
    ),
    verify="Duplicates disappear from the code's list, and the recall of its class in crowds does not fall.",
)

_CLASSES = Recommendation(
    method="separate_box_classes",
    title="Separate two classes of objects",
    actions=(
        "Most of its errors have the right place and the wrong class: look at the confusion the code names.",
        "Add examples of both classes at the same range; resample the rare one (class-balanced sampling).",
        "If the classes differ in the camera only, feed it; if nobody can tell them apart there, merge them for this "
        "range.",
    ),
    verify="The confusion leaves the top of the code's list, and its interval moves below the operational tolerance.",
)

_TAXONOMY = Recommendation(
    method="audit_taxonomy",
    title="Audit the classes of the labels",
    actions=(
        "Most of its errors are sure of another class at the right place: check 20 labels against the guideline.",
        "Look for objects between two classes (pick-up, van, bus-like truck): decide in the guideline, correct labels.",
        "Check that the class order of model and labels is the same after the last change.",
    ),
    verify="With corrected labels the confusion leaves the top of the code's list.",
)

_PARTS = Recommendation(
    method="complete_objects",
    title="Look for split or merged objects",
    actions=(
        "Most of its errors have neither the class nor the place of the object near them: often it is a part of a long "
        "object, or two objects as one.",
        "Draw 20 of them; add frames with trailers, articulated buses, groups and occluded objects as found.",
        "Check that the receptive field and the assignment radius cover the longest class.",
    ),
    verify="In the next evaluation these errors become matches, or at least errors of class or place alone.",
)

_THRESHOLD = Recommendation(
    method="lower_threshold",
    title="Lower the threshold where candidates exist",
    actions=(
        "Most of its missed objects have a candidate of their class below the operating point: the detector sees them.",
        "Lower the threshold of the class (for this range, if your pipeline can) until the added false positives cost "
        "more than the misses.",
        "Calibrate scores by range, or train with more weight on such objects, so that one threshold fits all.",
    ),
    verify="The recall of the code's class rises by more than the precision falls; F1 on held-out data does not fall.",
)

_SPARSE = Recommendation(
    method="add_sparse_samples",
    title="Add far and sparse objects",
    actions=(
        "Its missed objects are far away or made of few points: count points per object in `get_samples`.",
        "Aggregate more sweeps, or add a camera branch, so that there is something to see.",
        "Add far, occluded and few-point objects to training: pasted samples of low point counts, point dropout.",
        "Decide from how few points an object must be found; leave the rest out of truth with a stated limit.",
    ),
    verify="Recall at that range and point count rises in the next evaluation; nearer objects keep theirs.",
)

_GRID = Recommendation(
    method="sharpen_grid",
    title="Sharpen the grid for small objects",
    actions=(
        "Its missed objects are among the smallest: compare their width with the cell of the grid.",
        "Use smaller voxels or pillars, a finer output stride, or a head of its own for small classes.",
        "Sample small classes more often and paste them into training scenes.",
    ),
    verify="The recall of the small classes rises in the next evaluation.",
)

_MISSED = Recommendation(
    method="add_missed_objects",
    title="Label and train on what is missed",
    actions=(
        "Draw 20 of its missed objects: pose, occlusion, truncation at the range limit, rare shape, filtered points.",
        "Rule out the pipeline: range limit, ground filter, a limit on boxes per frame.",
        "Select frames that hold such objects with the DataFilter, label them and retrain.",
    ),
    verify="After retraining the interval of the code's miss rate lies below the operational tolerance.",
)

_FEW_FRAMES = Recommendation(
    method="label_more_frames",
    title="Label more frames with this code first",
    actions=("Select and label further frames that hold boxes of this code: there are too few for any verdict.",),
    verify="With the added boxes the code leaves recessive.",
)

_DECIDE = Recommendation(
    method="label_frames_to_decide",
    title="Label frames until it is decided",
    actions=(
        "Label further frames that hold boxes of this code: its rate is too close to a tolerance for the evidence.",
        "Meanwhile treat it as not covered.",
    ),
    verify="The interval no longer contains the operational tolerance and the code leaves recessive.",
)

_HOTSPOTS: Mapping[str, Recommendation] = {
    "bkg": _NEGATIVES, "loc": _PLACE, "dupe": _DUPLICATES, "cls": _CLASSES, "both": _PARTS,
}  # fmt: skip
_CRITICALS: Mapping[str, Recommendation] = {
    "bkg": _UNLABELLED, "loc": _BOX_LABELS, "dupe": _DUPLICATES, "cls": _TAXONOMY, "both": _PARTS,
}  # fmt: skip

DETECTION_METHODS: Mapping[str, Recommendation] = {
    method.method: method
    for method in (
        _BOXES, _NEGATIVES, _UNLABELLED, _PLACE, _BOX_LABELS, _DUPLICATES, _CLASSES, _TAXONOMY, _PARTS, _THRESHOLD,
        _SPARSE, _GRID, _MISSED, _FEW_FRAMES, _DECIDE,
    )
}  # fmt: skip
"""Every method that is of detectors alone, by its key."""


def find_method(key: str) -> Recommendation | None:
    """Return the method of any task that has this key, as `recommended_method` stores it; None for an unknown key."""
    return METHODS.get(key) or DETECTION_METHODS.get(key)


def recommend_for_boxes(
    category: str, reason: str, *, unit_kind: str, is_aleatoric: bool = False, clues: BoxClues | None = None
) -> Recommendation:
    """Return the recommended method for a code of boxes.

    Args:
        category: One of `CATEGORIES`.
        reason: One of `REASONS`.
        unit_kind: `prediction` or `object`.
        is_aleatoric: Whether the code is in the overlay.
        clues: What its errors have in common; without them the general method.

    Raises:
        InvalidInputError: Unknown category, reason or kind.
    """
    if category not in CATEGORIES or reason not in REASONS or unit_kind not in ("prediction", "object"):
        raise InvalidInputError(
            f"no method for category {category!r} with reason {reason!r} of a {unit_kind!r}; known are {CATEGORIES}, "
            f"{REASONS} and 'prediction', 'object'."
        )
    known = clues or BoxClues()
    if category in (HOTSPOT, CRITICAL) and not is_aleatoric and reason != "generalisation_gap":
        return _missed(known) if unit_kind == "object" else _wrong(category, known)
    if category == RECESSIVE and not is_aleatoric and reason not in _GENERAL:
        if known.is_undecidable:
            return METHODS["refine_or_accept"]
        return _FEW_FRAMES if reason == "few_units" else _DECIDE
    return recommend(category, reason, is_aleatoric=is_aleatoric)


def _wrong(category: str, clues: BoxClues) -> Recommendation:
    if clues.n_errors < _PATTERN_ERRORS or clues.type_share <= _DOMINANT or clues.error_type is None:
        return _BOXES
    # what to do about confident errors; a critical code may also hold errors of low scores, of which all are wrong
    confident = category == CRITICAL and clues.is_confident
    return (_CRITICALS if confident else _HOTSPOTS).get(clues.error_type, _BOXES)


def _missed(clues: BoxClues) -> Recommendation:
    if clues.n_errors < _PATTERN_ERRORS:
        return _MISSED
    if clues.candidate_share > _DOMINANT:
        return _THRESHOLD
    if clues.is_far or clues.has_few_points:
        return _SPARSE
    return _GRID if clues.is_small else _MISSED
