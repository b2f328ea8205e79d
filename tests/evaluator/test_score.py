"""`Result.score` and `Result.estimate_error_rate`: what a Logger would say, for anything that can be handed over."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import estimate_window
from mld_pipelines.evaluation import estimate_units, load_result, load_scorer, score_inferences
from mld_pipelines.evaluator import ErrorRateEstimate, Evaluator, Result
from mld_pipelines.exceptions import InvalidInputError, UnknownEpochError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_INFERENCES, TRACES_INPUTS
from tests.support.traced import FINGERPRINT, STRESS_FAMILIES, toy_outputs, write_inferences, write_stress, write_trace

SCORES = ["error_proba", "error_code", "category", "is_aleatoric"]


@pytest.fixture(scope="module")
def outputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return toy_outputs(300, seed=11, noise=1.6)


@pytest.fixture(scope="module")
def logged(endpoint: str, result: Result) -> pl.DataFrame:
    """Rows of `landing/inferences` of the evaluated weights."""
    lake = Lake.open(endpoint)
    write_inferences(lake, 300, seed=11, noise=1.6, stream="scored", result_name="first")
    return lake.read(LANDING_INFERENCES).filter(pl.col("stream_id") == "scored")


# -- score ------------------------------------------------------------------------------------------------------------


def test_a_score_has_fixed_columns(result: Result, outputs: tuple[np.ndarray, ...]) -> None:
    _, features, logits = outputs
    assert result.score(features=features, logits=logits).columns == [
        *SCORES, "reasons", "prediction", "confidence", "support_distance", "is_invalid",
    ]  # fmt: skip


@pytest.mark.torch
def test_a_score_equals_what_the_logger_records(endpoint: str, result: Result) -> None:
    """The same record through a Logger of a torch model and through `score`, bit for bit."""
    import torch

    from mld_pipelines.monitoring import ClassificationLogger
    from mld_pipelines.training import ClassificationTracer

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    inputs = torch.randn(400, 5)
    labels = model(inputs).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % 3
    tracer = ClassificationTracer(model, "tiny", "v1")
    tracer(inputs, labels, input_ids=range(400), dataset_type="val")
    tracer.wait_for_save()
    evaluated = Evaluator("tiny", "v1").request_evaluation()
    later = torch.randn(50, 5) * 1.5
    with ClassificationLogger(model, "tiny", "v1", result_name=evaluated.result_name) as logger:
        logger(later)
    recorded = Lake.open(endpoint).read(LANDING_INFERENCES).filter(pl.col("model_key") == "tiny@v1").sort("seq", "row")
    assert recorded["error_proba"].null_count() == 0
    hidden = model[1](model[0](later))
    scored = evaluated.score(features=hidden, logits=model[2](hidden))
    assert scored.select(SCORES).equals(recorded.select(SCORES))
    assert evaluated.score(rows=recorded).select(SCORES).equals(recorded.select(SCORES))


def test_a_score_equals_that_of_the_asset(endpoint: str, result: Result, logged: pl.DataFrame) -> None:
    expected = score_inferences(logged, load_scorer(Lake.open(endpoint), "first"))
    assert result.score(rows=logged).select(SCORES).equals(expected.select(SCORES))
    assert result.score(rows=logged)["support_distance"].equals(expected["support_distance"])


@pytest.mark.torch
def test_arrays_lists_tensors_and_rows_score_alike(
    result: Result, logged: pl.DataFrame, outputs: tuple[np.ndarray, ...]
) -> None:
    import torch

    _, features, logits = outputs
    expected = result.score(features=features, logits=logits)
    assert result.score(features=features.tolist(), logits=logits.tolist()).equals(expected)
    tensors = torch.tensor(features, requires_grad=True), torch.tensor(logits, dtype=torch.float64)
    assert result.score(features=tensors[0], logits=tensors[1]).equals(expected)
    assert result.score(features=list(tensors[0]), logits=list(tensors[1])).equals(expected)
    rows = result.score(rows=logged)
    assert rows.drop(name for name in rows.columns if name not in expected.columns).equals(expected)
    assert rows["request_id"].to_list() == logged["request_id"].to_list()


def test_a_unit_scores_the_same_in_any_batch(result: Result, outputs: tuple[np.ndarray, ...]) -> None:
    _, features, logits = outputs
    whole = result.score(features=features, logits=logits)
    parts = [result.score(features=features[i : i + 7], logits=logits[i : i + 7]) for i in range(0, 300, 7)]
    assert pl.concat(parts).equals(pl.DataFrame(whole))


def test_reasons_are_those_of_the_estimator(endpoint: str, result: Result, outputs: tuple[np.ndarray, ...]) -> None:
    _, features, logits = outputs
    scorer = load_scorer(Lake.open(endpoint), "first")
    expected = scorer.estimator.reasons(scorer.score(logits=logits, features=features).risk_scores.astype(float))
    for row, reasons in zip(result.score(features=features, logits=logits)["reasons"], expected, strict=True):
        assert [(r["score"], r["meaning"]) for r in row] == [(r.score, r.meaning) for r in reasons]


@pytest.mark.platform
def test_mappings_lazy_frames_and_pandas_frames_are_rows(result: Result, logged: pl.DataFrame) -> None:
    wanted = logged.select("request_id", "logits", "feature", "fingerprint").head(20)
    expected = result.score(rows=wanted)
    assert result.score(rows=wanted.to_dicts()).equals(expected)
    assert result.score(rows=wanted.lazy()).equals(expected)
    import pandas as pd

    frame = pd.DataFrame({name: wanted[name].to_list() for name in wanted.columns})
    assert result.score(rows=frame).equals(expected)


def test_traced_rows_are_not_their_own_neighbours(endpoint: str, result: Result) -> None:
    """Training rows lie in the bank: scored as strangers they would find themselves at distance 0."""
    rows = Lake.open(endpoint).read(TRACES_INPUTS).filter(
        (pl.col("model_key") == "toy@v1") & (pl.col("dataset_type") == "train")
    )  # fmt: skip
    stored = result.get_samples(dataset="train", order="input_id", reasons=False)
    scored = result.score(rows=rows.sort("input_id"))
    assert scored["error_proba"].equals(stored["error_proba"])


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((300, 5))}, r"features have shape \(300, 5\).*\(units, 6\)"),
        ({"logits": np.zeros((300, 3))}, r"logits have shape \(300, 3\).*\(units, 4\)"),
        ({"logits": np.zeros(4)}, r"logits have shape \(4,\)"),
        ({"features": np.zeros((299, 6))}, "300 rows of logits and 299 of features"),
        ({"features": None}, "features of 6 values and none were given"),
        ({"logits": None}, "exactly one of logits and probabilities"),
        ({"probabilities": np.full((300, 4), 0.25)}, "exactly one of logits and probabilities"),
        ({"rows": pl.DataFrame()}, "either rows or arrays"),
        ({"logits": [["a", "b", "c", "d"]]}, "cannot be read as numbers"),
        ({"logits": np.zeros((300, 4), dtype=complex)}, "complex"),
        ({"logits": [[1.0, 2.0], [1.0]]}, "cannot be read as numbers"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    result: Result, outputs: tuple[np.ndarray, ...], change: dict[str, object], message: str
) -> None:
    _, features, logits = outputs
    arguments = {"features": features, "logits": logits, **change}
    with pytest.raises(InvalidInputError, match=message):
        result.score(**arguments)
    with pytest.raises(InvalidInputError, match=message):
        result.estimate_error_rate(**arguments)


def test_logits_given_as_probabilities_are_refused(result: Result, outputs: tuple[np.ndarray, ...]) -> None:
    _, features, logits = outputs
    with pytest.raises(InvalidInputError, match="are no probabilities"):
        result.score(features=features, probabilities=logits)


def test_units_that_are_not_finite_are_null_and_counted(
    result: Result, outputs: tuple[np.ndarray, ...], caplog: pytest.LogCaptureFixture
) -> None:
    _, features, logits = (part.astype(float).copy() for part in outputs)
    logits[3, 1], features[5, 0], logits[9, 2] = np.nan, np.inf, 1e300  # beyond float32
    with caplog.at_level(logging.WARNING, logger="mld_pipelines.evaluator"):
        scored = result.score(features=features, logits=logits)
    assert "3 of 300 units" in caplog.text
    assert scored.with_row_index().filter("is_invalid")["index"].to_list() == [3, 5, 9]
    columns = [name for name in scored.columns if name != "is_invalid"]
    assert scored.filter("is_invalid").select(columns).null_count().row(0) == (3,) * len(columns)
    kept = [i for i in range(300) if i not in {3, 5, 9}]
    assert scored.filter(~pl.col("is_invalid")).equals(
        pl.DataFrame(result.score(features=outputs[1][kept], logits=outputs[2][kept]))
    )
    estimate = result.estimate_error_rate(features=features, logits=logits)
    assert (estimate.n, estimate.n_invalid) == (297, 3)


def test_empty_input_gives_an_empty_frame_and_no_number(result: Result, logged: pl.DataFrame) -> None:
    for empty in (
        result.score(features=[], logits=[]),
        result.score(features=np.empty((0, 6)), logits=np.empty((0, 4))),
    ):
        assert empty.height == 0
        assert empty.columns[:4] == SCORES
    rows = result.score(rows=logged.clear())
    assert (rows.height, rows.schema["error_proba"]) == (0, pl.Float32)
    assert result.score(rows=[]).height == 0
    estimate = result.estimate_error_rate(features=[], logits=[])
    assert (estimate.n, estimate.error_rate, estimate.low, estimate.opinions) == (0, None, None, None)
    assert "not enough evidence" in str(estimate)


def test_rows_of_other_weights_are_refused_unless_accepted(
    result: Result, logged: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = logged.with_columns(pl.lit("d" * 64).alias("fingerprint"))
    with pytest.raises(InvalidInputError, match=r"other weights \(fingerprint dddddddddddd….*\(aaaaaaaaaaaa…\)"):
        result.score(rows=foreign)
    with pytest.raises(InvalidInputError, match="other weights"):
        result.estimate_error_rate(rows=foreign)
    with caplog.at_level(logging.WARNING, logger="mld_pipelines.evaluator"):
        scored = result.score(rows=foreign, accept_fingerprint=True)
    assert "all the same" in caplog.text
    assert scored.equals(result.score(rows=logged))


def test_rows_that_do_not_say_their_weights_are_refused_unless_accepted(result: Result, logged: pl.DataFrame) -> None:
    silent = logged.drop("fingerprint")
    with pytest.raises(InvalidInputError, match="none recorded"):
        result.score(rows=silent)
    assert result.score(rows=silent, accept_fingerprint=True).equals(result.score(rows=logged))


def test_rows_of_own_and_other_weights_are_refused_as_a_whole(result: Result, logged: pl.DataFrame) -> None:
    mixed = logged.with_columns(
        pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("d" * 64)).otherwise("fingerprint").alias("fingerprint")
    )
    with pytest.raises(InvalidInputError, match="dddddddddddd"):
        result.score(rows=mixed)
    accepted = result.score(rows=mixed, accept_fingerprint=True)
    assert accepted.equals(result.score(rows=logged))
    assert result.estimate_error_rate(rows=mixed, accept_fingerprint=True).n == 300


def test_rows_without_vectors_are_null(result: Result, logged: pl.DataFrame) -> None:
    thin = logged.with_columns(
        pl.when(pl.int_range(pl.len()) != 2).then("feature").alias("feature"),
        pl.when(pl.int_range(pl.len()) != 4).then("logits").alias("logits"),
    )
    scored = result.score(rows=thin)
    assert scored.with_row_index().filter("is_invalid")["index"].to_list() == [2, 4]
    none = result.score(rows=logged.drop("feature"))
    assert none["error_proba"].null_count() == 300


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pl.DataFrame({"fingerprint": [FINGERPRINT], "x": [1]}), "neither a column logits nor probs"),
        (pl.DataFrame({"fingerprint": [FINGERPRINT], "logits": [[1.0, 2.0]], "feature": [[0.0] * 6]}), "vectors of 2"),
        (pl.DataFrame({"fingerprint": [FINGERPRINT], "logits": [1.0], "feature": [[0.0] * 6]}), "not lists"),
        (
            pl.DataFrame({"fingerprint": [FINGERPRINT], "logits": [["a"] * 4], "feature": [[0.0] * 6]}),
            "not lists of num",
        ),
        ("rows", "got str"),
        (5, "got int"),
    ],
)
def test_rows_that_are_no_rows_are_refused(result: Result, rows: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        result.score(rows=rows)


# -- epochs and models without features -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def epochs(endpoint: str, result: Result) -> Result:
    lake = Lake.open(endpoint)
    for epoch, noise in ((1, 2.0), (2, 1.0)):
        write_trace(
            lake, "val", 200, seed=epoch, epoch=epoch, noise=noise, model_key="stages@v1", fingerprint=str(epoch) * 64
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", endpoint)
        return Evaluator("stages", "v1").request_evaluation(n_epoch=None)


def test_arrays_take_the_latest_epoch_and_rows_that_of_their_weights(
    epochs: Result, logged: pl.DataFrame, outputs: tuple[np.ndarray, ...]
) -> None:
    _, features, logits = outputs
    first, second = (epochs.score(features=features, logits=logits, n_epoch=epoch) for epoch in (1, 2))
    assert epochs.score(features=features, logits=logits).equals(second)
    assert not first["error_proba"].equals(second["error_proba"])
    half = pl.int_range(pl.len()) % 2 == 0
    mixed = logged.with_columns(pl.when(half).then(pl.lit("1" * 64)).otherwise(pl.lit("2" * 64)).alias("fingerprint"))
    scored = epochs.score(rows=mixed)
    assert scored["request_id"].to_list() == logged["request_id"].to_list()
    expected = [(first if i % 2 == 0 else second)["error_proba"][i] for i in range(300)]
    assert scored["error_proba"].to_list() == expected


def test_rows_of_several_epochs_have_no_common_error_rate(epochs: Result, logged: pl.DataFrame) -> None:
    half = pl.int_range(pl.len()) % 2 == 0
    mixed = logged.with_columns(pl.when(half).then(pl.lit("1" * 64)).otherwise(pl.lit("2" * 64)).alias("fingerprint"))
    with pytest.raises(InvalidInputError, match="2 sets of weights"):
        epochs.estimate_error_rate(rows=mixed)


def test_an_epoch_that_the_result_lacks_is_an_error(epochs: Result, outputs: tuple[np.ndarray, ...]) -> None:
    _, features, logits = outputs
    with pytest.raises(UnknownEpochError, match="it has: 1, 2"):
        epochs.score(features=features, logits=logits, n_epoch=3)


def test_a_model_without_features_needs_none(endpoint: str, outputs: tuple[np.ndarray, ...]) -> None:
    write_trace(Lake.open(endpoint), "val", 200, seed=2, noise=1.6, model_key="plain@v1", features=False)
    plain = Evaluator("plain", "v1").request_evaluation()
    _, features, logits = outputs
    scored = plain.score(logits=logits)
    assert scored["error_code"].unique().to_list() == ["UNCODED"]
    assert scored["error_proba"].null_count() == 0
    assert plain.score(logits=logits, features=features).equals(scored)
    assert plain.estimate_error_rate(logits=logits).opinions.codes is None


# -- estimate ---------------------------------------------------------------------------------------------------------


def test_the_estimate_is_that_of_a_monitoring_window(
    endpoint: str, result: Result, outputs: tuple[np.ndarray, ...]
) -> None:
    _, features, logits = outputs
    scorer = load_scorer(Lake.open(endpoint), "first")
    expected = estimate_window(
        scorer.window_state(scorer.score(logits=logits, features=features)), scorer.window_reference, level=0.95
    )
    estimate = result.estimate_error_rate(features=features, logits=logits, level=0.95)
    assert isinstance(estimate, ErrorRateEstimate)
    for name in ("error_rate", "low", "high", "level", "n", "opinions", "badges", "is_alert", "is_outside"):
        assert getattr(estimate, name) == getattr(expected, name)
    assert estimate.verified_families == ()
    assert "not verified under shift" in estimate.badges


def test_the_estimate_covers_the_true_rate_of_units_like_the_reference(result: Result) -> None:
    """Ten windows at 90 %: seven or fewer covered would happen in 7 % of runs by chance alone."""
    covered = 0
    for seed in range(10):
        labels, features, logits = toy_outputs(500, seed=50 + seed, noise=1.6)
        estimate = result.estimate_error_rate(features=features, logits=logits)
        covered += estimate.low <= (logits.argmax(axis=1) != labels).mean() <= estimate.high
    assert covered >= 8


def test_rows_and_arrays_give_the_same_estimate(
    result: Result, logged: pl.DataFrame, outputs: tuple[np.ndarray, ...]
) -> None:
    _, features, logits = outputs
    assert result.estimate_error_rate(rows=logged) == result.estimate_error_rate(features=features, logits=logits)


def test_a_printed_estimate_shows_the_peers_and_the_badges(result: Result, outputs: tuple[np.ndarray, ...]) -> None:
    _, features, logits = outputs
    text = str(result.estimate_error_rate(features=features, logits=logits))
    assert all(word in text for word in ("ATC-MC", "MSP+T", "n = 300", "at 90%", "- not verified under shift"))


def test_inputs_outside_the_reference_are_said(result: Result) -> None:
    rng = np.random.default_rng(0)
    features = (40.0 + rng.normal(size=(200, 6))).astype(np.float32)
    estimate = result.estimate_error_rate(features=features, logits=np.tile([9.0, 0.0, 0.0, 0.0], (200, 1)))
    assert estimate.is_outside
    assert any("outside the reference" in badge for badge in estimate.badges)


def test_after_a_stress_pass_the_estimate_uses_it_and_names_what_it_verified(endpoint: str) -> None:
    lake = Lake.open(endpoint)
    names = {"model_key": "stressed@v1", "seed": 2, "noise": 1.4}
    write_trace(lake, "val", 900, **names)
    write_stress(lake, "val", 250, **names)
    stressed = Evaluator("stressed", "v1").request_evaluation()
    _, features, logits = toy_outputs(500, seed=12, noise=2.2)
    estimate = stressed.estimate_error_rate(features=features, logits=logits)
    expected = estimate_units(load_scorer(lake, stressed.result_name), features=features, logits=logits)
    assert (estimate.error_rate, estimate.low, estimate.high) == (expected.error_rate, expected.low, expected.high)
    assert sorted((*estimate.verified_families, *estimate.missed_families)) == sorted(STRESS_FAMILIES)
    families = load_result(lake, stressed.result_name).verifications()[None]["families"]
    held = sorted(name for name in STRESS_FAMILIES if families[name]["covered"] >= 0.75)
    assert estimate.verified_families == tuple(held)
    assert "not verified under shift" not in estimate.badges
    assert f"- verified on: {', '.join(estimate.verified_families)}" in str(estimate)
    assert f"- the interval did not hold on: {', '.join(estimate.missed_families)}" in str(estimate)


def test_few_units_are_estimated_without_an_alert(result: Result) -> None:
    _, features, logits = toy_outputs(20, seed=13, noise=3.0)
    estimate = result.estimate_error_rate(features=features, logits=logits)
    assert "few units in the window" in estimate.badges
    assert not estimate.is_alert


def test_a_reference_of_few_units_gives_no_codes_and_no_narrow_interval(endpoint: str) -> None:
    write_trace(Lake.open(endpoint), "val", 40, seed=2, noise=1.6, model_key="short@v1")
    short = Evaluator("short", "v1").request_evaluation()
    _, features, logits = toy_outputs(500, seed=14, noise=1.6)
    assert short.score(features=features, logits=logits)["error_code"].unique().to_list() == ["UNCODED"]
    estimate = short.estimate_error_rate(features=features, logits=logits)
    assert estimate.high - estimate.error_rate >= 0.15 - 1e-12
    assert estimate.error_rate - estimate.low >= min(0.15 - 1e-12, estimate.error_rate)


def test_a_reference_without_an_error_never_alerts(endpoint: str) -> None:
    labels = toy_outputs(300, seed=2, noise=0.2)[2].argmax(axis=1)
    write_trace(Lake.open(endpoint), "val", 300, seed=2, noise=0.2, model_key="flawless@v1", labels=labels)
    flawless = Evaluator("flawless", "v1").request_evaluation()
    _, features, logits = toy_outputs(300, seed=15, noise=3.0)
    estimate = flawless.estimate_error_rate(features=features, logits=logits)
    assert "no errors seen" in estimate.badges
    assert (estimate.low, estimate.is_alert) == (0.0, False)


def test_another_level_is_refused_with_those_that_exist(result: Result, outputs: tuple[np.ndarray, ...]) -> None:
    _, features, logits = outputs
    with pytest.raises(InvalidInputError, match=r"0\.8, 0\.9, 0\.95"):
        result.estimate_error_rate(features=features, logits=logits, level=0.5)


def test_precision_and_recall_are_of_detectors_only(result: Result) -> None:
    with pytest.raises(InvalidInputError, match="of a classifier; nothing was estimated"):
        result.estimate_precision_recall([])


def test_classes_are_summed_up_for_detectors_only(result: Result) -> None:
    with pytest.raises(InvalidInputError, match="of a classifier; nothing was computed"):
        result.class_summary()
