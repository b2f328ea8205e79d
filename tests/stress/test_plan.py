"""Which inputs and corruptions a stress pass uses, what it costs, and families of the user's own."""

from __future__ import annotations

import hashlib
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.stress import (
    Family,
    Kind,
    StressSet,
    choose_inputs,
    find_families,
    image_families,
    plan_stress,
    stress_version,
)

IDS = [f"val/{row}" for row in range(50)]
HALVE = Kind("halve", lambda value, severity, rng: value / 2**severity)


@pytest.fixture
def module(monkeypatch):
    made = types.ModuleType("corruptions_of_a_user")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_chosen_inputs_have_the_smallest_hashes():
    by_hand = sorted(IDS, key=lambda name: hashlib.sha256(b"7" + name.encode()).hexdigest())[:5]
    assert choose_inputs(IDS, n=5, seed=7) == by_hand
    assert set(choose_inputs(IDS, n=5, seed=8)) != set(by_hand)


@settings(max_examples=50, deadline=None)
@given(ids=st.sets(st.text(min_size=1), min_size=2, max_size=30), n=st.integers(1, 30), seed=st.integers(0, 99))
def test_the_choice_does_not_depend_on_the_order_and_grows_by_adding(ids, n, seed):
    ordered = sorted(ids)
    chosen = choose_inputs(ordered, n=n, seed=seed)
    assert choose_inputs(ordered[::-1], n=n, seed=seed) == chosen
    assert len(chosen) == min(n, len(ids))
    assert choose_inputs(ordered, n=n + 1, seed=seed)[: len(chosen)] == chosen


@pytest.mark.parametrize(("ids", "n"), [([], 5), (["a"], 0), (["a", "a"], 1)])
def test_an_impossible_choice_is_refused(ids, n):
    with pytest.raises(InvalidInputError, match="nothing was chosen"):
        choose_inputs(ids, n=n, seed=0)


def test_a_plan_lists_every_kind_at_every_severity_and_what_it_costs():
    plan = plan_stress(image_families(), input_ids=IDS, max_inputs=40)
    assert len(plan.sets) == 21 * 3
    assert plan.sets[0] == StressSet("noise", "gaussian_noise", 1)
    assert plan.n_forwards == 63 * 40
    assert plan.seconds(measured_seconds=0.5, measured_inputs=10) == pytest.approx(126.0)
    assert [i for i in IDS if i in plan.input_ids] == list(plan.input_ids)
    assert set(plan.input_ids) == set(choose_inputs(IDS, n=40, seed=0))
    assert plan.family(plan.sets[-1]).name == "digital"
    with pytest.raises(InvalidInputError, match="no cost follows"):
        plan.seconds(measured_seconds=1.0, measured_inputs=0)


def test_a_plan_goes_on_at_the_first_set_that_is_missing():
    plan = plan_stress(image_families(), input_ids=IDS)
    done = [(one.kind, one.severity) for one in plan.sets[:4]]
    assert plan.remaining(done) == plan.sets[4:]
    assert plan.remaining([]) == plan.sets


def test_the_version_follows_families_severities_and_seed_only():
    base = plan_stress(image_families(), input_ids=IDS)
    assert base.version == plan_stress(image_families(), input_ids=IDS[:9]).version
    others = [
        plan_stress(image_families()[:4], input_ids=IDS),
        plan_stress(image_families(), input_ids=IDS, severities=(1, 3)),
        plan_stress(image_families(), input_ids=IDS, seed=1),
        plan_stress([Family("noise", (HALVE,), "image", version="2")], input_ids=IDS),
        plan_stress([Family("noise", (HALVE,), "image", version="3")], input_ids=IDS),
    ]
    assert len({base.version, *(plan.version for plan in others)}) == 6


@pytest.mark.parametrize("severities", [(), (0,), (1, 1), (6,)])
def test_unknown_severities_are_refused(severities):
    with pytest.raises(InvalidInputError, match="severities"):
        plan_stress(image_families(), input_ids=IDS, severities=severities)


def test_kinds_that_a_table_could_not_tell_apart_are_refused():
    with pytest.raises(InvalidInputError, match="kinds"):
        plan_stress([Family("a", (HALVE,), "x"), Family("b", (HALVE,), "x")], input_ids=IDS)
    with pytest.raises(InvalidInputError, match="families"):
        plan_stress([], input_ids=IDS)


def test_a_user_names_a_function_that_returns_families(module):
    module.make = lambda: [Family("mine", (HALVE,), "audio")]
    (family,) = find_families("corruptions_of_a_user:make")
    halved = family.corrupt(np.ones(4), kind="halve", severity=2, seed=0, input_id="a")
    np.testing.assert_array_equal(halved, 0.25)
    module.make = lambda: Family("one", (HALVE,), "audio")
    assert find_families("corruptions_of_a_user:make")[0].name == "one"


@pytest.mark.parametrize(
    ("function", "words"),
    [(lambda: 3, "returned int"), (lambda: [3], "Return one Family"), (lambda x: x, "without arguments")],
)
def test_a_users_function_that_returns_anything_else_is_refused(module, function, words):
    module.make = function
    with pytest.raises(ConfigurationError, match=words):
        find_families("corruptions_of_a_user:make")


def test_families_that_do_not_exist_are_refused_with_those_that_do():
    with pytest.raises(InvalidInputError, match="'image', 'tabular', 'points'"):
        find_families("audio")
    with pytest.raises(ConfigurationError, match="failed"):
        find_families("no_such_module_here:make")
    with pytest.raises(InvalidInputError, match=r"TabularReference\.fit"):
        find_families("tabular")


def test_built_in_families_are_found_by_name():
    assert [family.name for family in find_families("image")] == ["noise", "blur", "light", "geometry", "digital"]
    assert {family.modality for family in find_families("points", has_intensity=False)} == {"points"}


def test_the_version_of_copies_does_not_depend_on_their_order():
    plan = plan_stress(image_families(), input_ids=IDS, seed=3)
    sets = [(one.family, one.kind, one.severity) for one in plan.sets]
    families = [(family.name, family.version) for family in plan.families]
    assert stress_version(families[::-1], sets[::-1], seeds=[3]) == plan.version
    assert stress_version(families, sets[1:], seeds=[3]) != plan.version
    assert stress_version(families, sets, seeds=[3, 4]) != plan.version
