"""The policy validates itself and survives a JSON round trip."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.diagnosis import Policy
from mld_pipelines.exceptions import InvalidInputError


def test_defaults_are_the_documented_conventions() -> None:
    policy = Policy()
    assert (policy.tau_stable, policy.tau_operational, policy.alpha, policy.n_min) == (0.05, 0.20, 0.05, 20)
    assert (policy.units_per_code, policy.codes_min, policy.codes_max, policy.n_ref_min) == (50, 8, 512, 60)
    assert (policy.sqrt_p_weight, policy.seed, policy.level, policy.bank_limit) == (2.0, 0, 0.9, 10_000)
    assert (policy.reevaluate_labels, policy.reevaluate_labels_shifted, policy.reevaluate_windows) == (200, 50, 3)
    assert policy.reevaluate_cooldown_seconds == 21_600


@given(
    tau=st.floats(0.01, 0.2),
    n_min=st.integers(1, 500),
    dataset=st.none() | st.text(min_size=1),
    level=st.sampled_from([0.8, 0.9, 0.95]),
)
def test_json_round_trip_keeps_every_field(tau: float, n_min: int, dataset: str | None, level: float) -> None:
    policy = Policy(tau_stable=tau, n_min=n_min, decision_dataset=dataset, level=level)
    assert Policy.from_json(policy.to_json()) == policy


def test_json_of_equal_policies_is_equal_text() -> None:
    assert Policy(seed=3, n_min=5).to_json() == Policy(n_min=5, seed=3).to_json()


def test_fields_missing_in_json_take_the_default() -> None:
    assert Policy.from_json('{"tau_operational": 0.3}') == Policy(tau_operational=0.3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tau_stable", 0.0), ("tau_stable", 0.3), ("tau_operational", 1.0), ("tau_operational", "0.2"), ("alpha", 0.6),
        ("alpha", float("nan")), ("n_min", 0), ("n_min", 2.5), ("n_min", True), ("level", 0.99), ("seed", -1),
        ("sqrt_p_weight", float("inf")), ("codes_min", 600), ("codes_max", 5000), ("codebook_fit_limit", 100),
        ("decision_dataset", ""), ("algorithm_version", ""), ("unseen_refit_floor", 1.5),
    ],
)  # fmt: skip
def test_bad_value_is_an_error_that_names_the_field(field: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=field):
        Policy(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["{", "[1]", '{"tau_stabel": 0.1}', json.dumps({"n_min": None})])
def test_bad_json_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Policy.from_json(text)
