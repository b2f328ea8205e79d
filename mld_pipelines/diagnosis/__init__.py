"""Where a model errs: codebook and codes, issue categories, error estimator, window estimate. Pure functions."""

from __future__ import annotations

from mld_pipelines.diagnosis._policy import ALGORITHM_VERSION, LEVELS, Policy
from mld_pipelines.diagnosis._projection import Projection, fit_projection

__all__ = ["ALGORITHM_VERSION", "LEVELS", "Policy", "Projection", "fit_projection"]
