"""`mld results compare`: two results on the command line, as text, as a document and as a gate."""

from __future__ import annotations

import numpy as np
import pytest

from mld_pipelines.cli._exits import Exit
from mld_pipelines.evaluation import load_result
from mld_pipelines.evaluator import Evaluator, Result
from tests.support.traced import toy_outputs, write_trace


@pytest.fixture
def pair(lake):
    """Results `old` and `new`: the new model is right on nearly everything."""
    labels, _, logits = toy_outputs(200, seed=0, noise=1.6)
    helped = logits + np.where(np.arange(4) == labels[:, None], 6.0, 0.0)
    write_trace(lake, "val", 200, noise=1.6)
    write_trace(lake, "val", 200, noise=1.6, model_key="toy@v2", fingerprint="b" * 64, logits=helped)
    Evaluator("toy", "v1").request_evaluation(result_name="old")
    Evaluator("toy", "v2").request_evaluation(result_name="new")
    return lake


def test_a_comparison_says_on_how_many_inputs_it_rests(mld, pair):
    done = mld("results", "compare", "old", "new", "--n-boot", "100")
    assert done.exit == Exit.OK
    assert "val: compared on 200 common inputs (100.0% / 100.0% of the results' units)" in done.stdout
    assert "better" in done.stdout


def test_the_document_holds_what_the_sdk_returns(mld, pair):
    document = mld("results", "compare", "old", "new", "--n-boot", "100", "--seed", "3", "--json").document
    old, new = (Result(load_result(pair, name)) for name in ("old", "new"))
    expected = old.compare(new, n_boot=100, seed=3)
    assert document["metrics"] == expected.metrics.to_dicts()
    assert document["fixed"] == expected.fixed.to_dicts()
    assert (document["before"], document["after"], document["n_common"]) == ("old", "new", 200)
    assert document["transitions"] == expected.transitions.to_dicts()


def test_a_worse_model_fails_the_gate_and_a_better_one_passes(mld, pair):
    assert mld("results", "compare", "old", "new", "--fail-if-worse", "--n-boot", "100").exit == Exit.OK
    failed = mld("results", "compare", "new", "old", "--fail-if-worse", "--n-boot", "100")
    assert failed.exit == Exit.CHECK_FAILED
    assert "accuracy is worse on val" in failed.stdout
    assert mld("results", "compare", "new", "old", "--n-boot", "100").exit == Exit.OK


def test_no_difference_passes_the_gate(mld, pair):
    assert mld("results", "compare", "old", "old", "--fail-if-worse", "--n-boot", "100").exit == Exit.OK


def test_an_unknown_result_names_the_known(mld, pair):
    done = mld("results", "compare", "old", "newest")
    assert done.exit == Exit.NOT_FOUND
    assert "new, old" in done.stderr


@pytest.mark.parametrize("arguments", [("--dataset", "test"), ("--level", "2"), ("--n-boot", "1")])
def test_what_cannot_be_compared_is_wrong_usage(mld, pair, arguments):
    done = mld("results", "compare", "old", "new", *arguments, "--json")
    assert done.exit == Exit.USAGE
    assert done.document["error"]["type"] == "InvalidInputError"


def test_an_epoch_that_was_not_evaluated_is_not_found(mld, pair):
    assert mld("results", "compare", "old", "new", "--n-epoch", "4").exit == Exit.NOT_FOUND
