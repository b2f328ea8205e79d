"""Where a model errs: codebook and codes, issue categories, error estimator, window estimate. Pure functions."""

from __future__ import annotations

from mld_pipelines.diagnosis._aleatoric import (
    AleatoricVerdicts,
    UnitAmbiguity,
    find_aleatoric,
    unit_ambiguity,
)
from mld_pipelines.diagnosis._bank import Bank, Head, ReferenceUnits, hash_keys, select_bank
from mld_pipelines.diagnosis._categories import (
    ALEATORIC,
    CATEGORIES,
    CRITICAL,
    HOTSPOT,
    OPERATIONAL,
    REASONS,
    RECESSIVE,
    STABLE,
    CodeCounts,
    Verdicts,
    atc_threshold,
    categorise,
    category_counts,
    count_codes,
    jeffreys_interval,
    posterior_cdf,
)
from mld_pipelines.diagnosis._clues import Clues, gather_clues
from mld_pipelines.diagnosis._codebook import (
    UNCODED,
    UNSEEN,
    UNSEEN_INDEX,
    CodeAssignment,
    Codebook,
    CodebookIdentity,
)
from mld_pipelines.diagnosis._codefit import CodebookFit, code_histogram, code_number, cross_fit_codes, fit_codebook
from mld_pipelines.diagnosis._codemap import CodeMap, fit_code_map
from mld_pipelines.diagnosis._coderefit import grow, needs_growth, refit_warm, unseen_excess
from mld_pipelines.diagnosis._distinction import Choice, Distinction, Measure, distinguish
from mld_pipelines.diagnosis._estimator import ErrorEstimator, Reason
from mld_pipelines.diagnosis._fit import EstimatorFit, fit_estimator
from mld_pipelines.diagnosis._guards import in_support, is_informative, support_limit
from mld_pipelines.diagnosis._linking import CodeLink, link_codes
from mld_pipelines.diagnosis._policy import ALGORITHM_VERSION, LEVELS, Policy
from mld_pipelines.diagnosis._projection import Projection, fit_projection
from mld_pipelines.diagnosis._recommendations import (
    METHODS,
    Recommendation,
    recommend,
)
from mld_pipelines.diagnosis._scorer import ProductionScorer, ScoredUnits
from mld_pipelines.diagnosis._scores import SCORE_MEANINGS, SCORE_NAMES, CodeRates, RiskScorer
from mld_pipelines.diagnosis._significance import NEEDED_LIMIT, units_needed, worse_than_rest
from mld_pipelines.diagnosis._temperature import fit_temperature, tempered_confidence
from mld_pipelines.diagnosis._vetoes import Vetoes, find_vetoes, probability_exceeds
from mld_pipelines.diagnosis._window import WindowReference, WindowState, fit_window_reference, window_state
from mld_pipelines.diagnosis._window_estimate import Opinions, WindowEstimate, estimate_window
from mld_pipelines.diagnosis.detection._advice import DETECTION_METHODS, find_method, recommend_for_boxes
from mld_pipelines.diagnosis.detection._bank import DETECTION_BANK_LIMIT, DetectionBank, select_detection_bank
from mld_pipelines.diagnosis.detection._clues import BoxClues, gather_box_clues
from mld_pipelines.diagnosis.detection._estimator import DetectionEstimator
from mld_pipelines.diagnosis.detection._fit import DetectionFit, fit_detection_estimator
from mld_pipelines.diagnosis.detection._frame_tallies import FrameTallies
from mld_pipelines.diagnosis.detection._frames import (
    DetectedFrames,
    object_context,
    prediction_features,
    prediction_probabilities,
    prediction_statistics,
    split_detections,
)
from mld_pipelines.diagnosis.detection._misses import MISS_SCORE_NAMES, ExpectedMisses
from mld_pipelines.diagnosis.detection._scorer import DetectionScorer, ScoredFrames
from mld_pipelines.diagnosis.detection._scores import DETECTION_SCORE_MEANINGS, DETECTION_SCORE_NAMES
from mld_pipelines.diagnosis.detection._shift_fit import fit_detection_shift
from mld_pipelines.diagnosis.detection._shift_map import DetectionShiftMap, RateMap
from mld_pipelines.diagnosis.detection._unseen_candidates import (
    misses_per_frame,
    shows_no_candidates,
    with_candidate_badge,
)
from mld_pipelines.diagnosis.detection._window import (
    DetectionWindowReference,
    DetectionWindowState,
    detection_window_state,
)
from mld_pipelines.diagnosis.detection._window_estimate import (
    DetectionEstimate,
    DetectionOpinions,
    estimate_detection_window,
)
from mld_pipelines.diagnosis.stress._fit import fit_window_map
from mld_pipelines.diagnosis.stress._map import FamilyError, WindowMap, estimate_stressed_window
from mld_pipelines.diagnosis.stress._state import StressWindowState, WindowBaseline
from mld_pipelines.diagnosis.stress._units import StressedCopies, WindowUnits, window_units

__all__ = [
    "ALEATORIC",
    "ALGORITHM_VERSION",
    "CATEGORIES",
    "CRITICAL",
    "DETECTION_BANK_LIMIT",
    "DETECTION_METHODS",
    "DETECTION_SCORE_MEANINGS",
    "DETECTION_SCORE_NAMES",
    "HOTSPOT",
    "LEVELS",
    "METHODS",
    "MISS_SCORE_NAMES",
    "NEEDED_LIMIT",
    "OPERATIONAL",
    "REASONS",
    "RECESSIVE",
    "SCORE_MEANINGS",
    "SCORE_NAMES",
    "STABLE",
    "UNCODED",
    "UNSEEN",
    "UNSEEN_INDEX",
    "AleatoricVerdicts",
    "Bank",
    "BoxClues",
    "Choice",
    "Clues",
    "CodeAssignment",
    "CodeCounts",
    "CodeLink",
    "CodeMap",
    "CodeRates",
    "Codebook",
    "CodebookFit",
    "CodebookIdentity",
    "DetectedFrames",
    "DetectionBank",
    "DetectionEstimate",
    "DetectionEstimator",
    "DetectionFit",
    "DetectionOpinions",
    "DetectionScorer",
    "DetectionShiftMap",
    "DetectionWindowReference",
    "DetectionWindowState",
    "Distinction",
    "ErrorEstimator",
    "EstimatorFit",
    "ExpectedMisses",
    "FamilyError",
    "FrameTallies",
    "Head",
    "Measure",
    "Opinions",
    "Policy",
    "ProductionScorer",
    "Projection",
    "RateMap",
    "Reason",
    "Recommendation",
    "ReferenceUnits",
    "RiskScorer",
    "ScoredFrames",
    "ScoredUnits",
    "StressWindowState",
    "StressedCopies",
    "UnitAmbiguity",
    "Verdicts",
    "Vetoes",
    "WindowBaseline",
    "WindowEstimate",
    "WindowMap",
    "WindowReference",
    "WindowState",
    "WindowUnits",
    "atc_threshold",
    "categorise",
    "category_counts",
    "code_histogram",
    "code_number",
    "count_codes",
    "cross_fit_codes",
    "detection_window_state",
    "distinguish",
    "estimate_detection_window",
    "estimate_stressed_window",
    "estimate_window",
    "find_aleatoric",
    "find_method",
    "find_vetoes",
    "fit_code_map",
    "fit_codebook",
    "fit_detection_estimator",
    "fit_detection_shift",
    "fit_estimator",
    "fit_projection",
    "fit_temperature",
    "fit_window_map",
    "fit_window_reference",
    "gather_box_clues",
    "gather_clues",
    "grow",
    "hash_keys",
    "in_support",
    "is_informative",
    "jeffreys_interval",
    "link_codes",
    "misses_per_frame",
    "needs_growth",
    "object_context",
    "posterior_cdf",
    "prediction_features",
    "prediction_probabilities",
    "prediction_statistics",
    "probability_exceeds",
    "recommend",
    "recommend_for_boxes",
    "refit_warm",
    "select_bank",
    "select_detection_bank",
    "shows_no_candidates",
    "split_detections",
    "support_limit",
    "tempered_confidence",
    "unit_ambiguity",
    "units_needed",
    "unseen_excess",
    "window_state",
    "window_units",
    "with_candidate_badge",
    "worse_than_rest",
]
