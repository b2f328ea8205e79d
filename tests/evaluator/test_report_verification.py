"""What a report says about a stress pass: what was verified, what was not, and that there was none."""

from __future__ import annotations

import pytest

from mld_pipelines.evaluator._report_verification import verification


def errors(default: float, half: float, full: float, covered: float) -> dict[str, float]:
    return {"default": default, "half": half, "map": full, "covered": covered, "n_windows": 30}


CLASSIFIER = {
    "blend_weight": 0.5,
    "families": {
        "blur": errors(0.05, 0.031, 0.04, 0.9),
        "clean": errors(0.01, 0.012, 0.02, 1.0),
        "noise": errors(0.2, 0.123, 0.15, 0.4),
    },
    "verified_families": ["blur"],
    "missed_families": ["noise"],
    "n_copies": 8400,
    "n_originals": 400,
    "width_factor": 2.5,
}
DETECTOR = CLASSIFIER | {
    "blend_weight": {"precision": 0.0, "recall": 1.0},
    "families": {
        "density": {"precision": errors(0.011, 0.5, 0.5, 0.95), "recall": errors(0.5, 0.5, 0.022, 0.91)},
        "coverage": {"recall": errors(0.5, 0.5, 0.133, 0.47)},
    },
    "verified_families": ["density"],
    "missed_families": ["coverage"],
}


@pytest.mark.parametrize("facts", [None, {}])
def test_without_a_pass_the_report_says_so(facts):
    assert "No stress pass was used" in verification(facts)


def test_a_classifier_has_one_line_per_family_with_the_published_error():
    page = verification(CLASSIFIER)
    assert "8,400 corrupted copies of 400 inputs" in page
    assert "Verified: blur. The interval did not hold on: noise." in page
    assert "3.1 points" in page and "12.3 points" in page and "40.0 %" in page
    assert page.count("not verified") == 1
    assert "no shift" in page


def test_a_detector_has_lines_for_both_rates_each_with_its_own_estimate():
    page = verification(DETECTOR)
    assert "1.1 points" in page and "2.2 points" in page and "13.3 points" in page
    assert page.count("precision") == 1 and page.count("recall") == 2
    assert "50.0 points" not in page
    assert "Verified: density. The interval did not hold on: coverage." in page
