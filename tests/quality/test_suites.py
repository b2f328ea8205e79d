"""Suites are derived from the specs and committed; the two never part."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from mld_pipelines.exceptions import NotFoundError
from mld_pipelines.quality import expectations, load_suite, suite_document, suite_path
from mld_pipelines.tables import CATALOGUE, TRACES_INPUTS, Column, TableSpec

SPECS = list(CATALOGUE.values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_committed_suite_equals_what_the_spec_declares(spec):
    assert load_suite(spec) == suite_document(spec), "run: python -m mld_pipelines.quality"


def test_no_suite_is_left_behind_by_a_table_that_is_gone():
    committed = {path.name for path in suite_path(TRACES_INPUTS).parent.glob("*.json")}
    assert committed == {suite_path(spec).name for spec in SPECS}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_names_are_unique_and_fit_asset_checks(spec):
    names = [one.name for one in expectations(spec)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in names)


def test_every_rule_and_every_required_column_is_expected():
    names = {one.name for one in expectations(TRACES_INPUTS)}
    for column in TRACES_INPUTS.columns:
        assert {f"{column.name}_{rule.name}" for rule in column.rules} <= names
        assert (f"{column.name}_required" in names) == column.required
    assert {"unique", "row_count", "column_set"} <= names


def test_what_pandas_cannot_see_is_judged_by_polars():
    engines = {one.name: one.engine for one in expectations(TRACES_INPUTS)}
    assert engines["confidence_finite"] == engines["feature_finite"] == engines["unique"] == "polars"
    assert engines["confidence_between"] == engines["dataset_type_required"] == "gx"


def test_a_table_without_a_suite_says_how_to_write_one():
    import polars as pl

    spec = TableSpec("ops/none", "ops", "x", (Column("a", pl.Int64, "a"),), ("a",))
    with pytest.raises(NotFoundError, match=r"python -m mld_pipelines\.quality"):
        load_suite(spec)


def test_the_documents_are_plain_json():
    for spec in SPECS:
        assert json.loads(json.dumps(suite_document(spec))) == suite_document(spec)


def test_importing_the_room_brings_no_great_expectations_and_no_pandas():
    code = "import sys, mld_pipelines.quality as q; print(sorted({'great_expectations','pandas'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
