"""Where a model errs: codebook and codes, issue categories, error estimator, window estimate. Pure functions."""

from __future__ import annotations

from mld_pipelines.diagnosis._bank import Bank, Head, ReferenceUnits, hash_keys, select_bank
from mld_pipelines.diagnosis._codebook import (
    UNCODED,
    UNSEEN,
    UNSEEN_INDEX,
    CodeAssignment,
    Codebook,
    CodebookIdentity,
)
from mld_pipelines.diagnosis._codefit import CodebookFit, code_histogram, code_number, cross_fit_codes, fit_codebook
from mld_pipelines.diagnosis._coderefit import grow, needs_growth, refit_warm, unseen_excess
from mld_pipelines.diagnosis._estimator import ErrorEstimator, Reason
from mld_pipelines.diagnosis._fit import EstimatorFit, fit_estimator
from mld_pipelines.diagnosis._linking import CodeLink, link_codes
from mld_pipelines.diagnosis._policy import ALGORITHM_VERSION, LEVELS, Policy
from mld_pipelines.diagnosis._projection import Projection, fit_projection
from mld_pipelines.diagnosis._scorer import ProductionScorer, ScoredUnits
from mld_pipelines.diagnosis._scores import SCORE_MEANINGS, SCORE_NAMES, CodeRates, RiskScorer
from mld_pipelines.diagnosis._temperature import fit_temperature, tempered_confidence
from mld_pipelines.diagnosis._window import WindowReference, WindowState, fit_window_reference, window_state
from mld_pipelines.diagnosis._window_estimate import Opinions, WindowEstimate, estimate_window

__all__ = [
    "ALGORITHM_VERSION",
    "LEVELS",
    "SCORE_MEANINGS",
    "SCORE_NAMES",
    "UNCODED",
    "UNSEEN",
    "UNSEEN_INDEX",
    "Bank",
    "CodeAssignment",
    "CodeLink",
    "CodeRates",
    "Codebook",
    "CodebookFit",
    "CodebookIdentity",
    "ErrorEstimator",
    "EstimatorFit",
    "Head",
    "Opinions",
    "Policy",
    "ProductionScorer",
    "Projection",
    "Reason",
    "ReferenceUnits",
    "RiskScorer",
    "ScoredUnits",
    "WindowEstimate",
    "WindowReference",
    "WindowState",
    "code_histogram",
    "code_number",
    "cross_fit_codes",
    "estimate_window",
    "fit_codebook",
    "fit_estimator",
    "fit_projection",
    "fit_temperature",
    "fit_window_reference",
    "grow",
    "hash_keys",
    "link_codes",
    "needs_growth",
    "refit_warm",
    "select_bank",
    "tempered_confidence",
    "unseen_excess",
    "window_state",
]
