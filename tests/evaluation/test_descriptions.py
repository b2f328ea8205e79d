"""`evaluation/codes`: every code says what it holds, recounted here from the units."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import SCORE_NAMES, Codebook, Policy
from mld_pipelines.evaluation import evaluate, load_result, remove_unbound
from mld_pipelines.evaluation._coding import Coding
from mld_pipelines.evaluation._descriptions import code_rows
from mld_pipelines.tables import EVALUATION_CODES, check
from tests.support.traced import MODEL, START, toy_outputs, write_trace

if TYPE_CHECKING:
    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.lake import Lake


@pytest.fixture(scope="module")
def result(shared_lake: Lake) -> StoredResult:
    return evaluate(shared_lake, MODEL, result_name="described")


@pytest.fixture(scope="module")
def codes(result: StoredResult) -> list[dict[str, Any]]:
    return result.codes().to_dicts()


@pytest.fixture(scope="module")
def val(result: StoredResult) -> pl.DataFrame:
    return result.units().filter(pl.col("dataset_type") == "val").collect()


def test_every_code_of_the_codebook_and_unseen_has_one_row(result: StoredResult, codes: list[dict[str, Any]]) -> None:
    book = _codebook(result)
    assert sorted(row["error_code"] for row in codes) == sorted([*book.names, "UNSEEN"])
    assert {row["dataset"] for row in codes} == {"val"}
    assert check(EVALUATION_CODES, result.codes()).valid.height == len(codes)


def test_counts_are_those_of_the_units(codes: list[dict[str, Any]], result: StoredResult, val: pl.DataFrame) -> None:
    units, everywhere, errors = (
        Counter(val["error_code"]),
        Counter(result.units().collect()["error_code"]),
        Counter(val.filter("is_error")["error_code"]),
    )
    for row in codes:
        n, k = units[row["error_code"]], errors[row["error_code"]]
        assert (row["counts"], row["errors"], row["counts_all"]) == (n, k, everywhere[row["error_code"]])
        assert row["error_rate"] == (pytest.approx(k / n) if n else None)


def test_class_mix_and_confusions_are_those_of_the_units(codes: list[dict[str, Any]], val: pl.DataFrame) -> None:
    for row in codes:
        own = val.filter(pl.col("error_code") == row["error_code"])
        mix = Counter(map(str, own["prediction"]))
        assert dict(zip(row["predicted_classes"], row["predicted_shares"], strict=True)) == {
            name: pytest.approx(n / own.height) for name, n in mix.items()
        }
        assert row["predicted_shares"] == sorted(row["predicted_shares"], reverse=True)
        wrong = own.filter("is_error")
        pairs = Counter(f"{a}→{b}" for a, b in wrong.select("label", "prediction").iter_rows())
        assert dict(zip(row["confusions"], row["confusion_counts"], strict=True)).items() <= pairs.items()
        assert row["confusion_counts"] == sorted(pairs.values(), reverse=True)[:5]


def test_typical_units_are_those_nearest_the_centroid(codes: list[dict[str, Any]], val: pl.DataFrame) -> None:
    for row in codes:
        own = val.filter(pl.col("error_code") == row["error_code"])
        order = own.sort("support_distance", "input_id", descending=[row["error_code"] == "UNSEEN", False])
        assert row["typical_input_ids"] == order["input_id"].to_list()[:5]
        assert row["typical_wrong_input_ids"] == order.filter("is_error")["input_id"].to_list()[:5]


def test_a_code_is_where_the_map_of_its_codebook_puts_it(codes: list[dict[str, Any]], result: StoredResult) -> None:
    book = _codebook(result)
    expected = dict(zip(book.names, book.map_of_codes().positions(book.centroids).tolist(), strict=True))
    for row in codes:
        assert [row["map_x"], row["map_y"]] == expected.get(row["error_code"], [None, None])


def test_evaluating_twice_gives_the_same_descriptions(shared_lake: Lake, result: StoredResult) -> None:
    again = evaluate(shared_lake, MODEL)
    own = ["evaluation_id", "result_name"]
    assert again.codes().drop(own).sort("error_code").equals(result.codes().drop(own).sort("error_code"))


def test_metadata_that_makes_a_code_is_named(lake: Lake, val: pl.DataFrame) -> None:
    """A lamp is planted: broken in one code, and in one of twenty inputs elsewhere."""
    planted = val.group_by("error_code").len().sort("len", "error_code")["error_code"][-1]
    code_of = dict(val.select("input_id", "error_code").iter_rows())
    broken = [code_of[f"val-{i}"] == planted or i % 20 == 0 for i in range(900)]
    metadata = [json.dumps({"lamp": "<b>" if b else "ok", "row": i, "fixed": 1}) for i, b in enumerate(broken)]
    write_trace(lake, "train", 900, seed=1)
    write_trace(lake, "val", 900, seed=2, noise=1.4, metadata=metadata)
    rows = evaluate(lake, MODEL).codes()
    (row,) = rows.filter(pl.col("error_code") == planted).to_dicts()
    place = row["distinction_names"].index("lamp")
    elsewhere = [b for i, b in enumerate(broken) if code_of[f"val-{i}"] != planted]
    assert row["distinction_inside"][place] == pytest.approx(1.0)
    assert row["distinction_outside"][place] == pytest.approx(sum(elsewhere) / len(elsewhere))
    assert row["distinctions"][place] == "lamp is <b> for 100 % of its units, 5 % elsewhere"
    said = [name for names in rows["distinction_names"] for name in names]
    assert not {"row", "fixed"} & set(said), "neither the row number nor a constant has to do with a code"


def test_without_features_the_one_code_is_described_without_place_or_difference(lake: Lake) -> None:
    write_trace(lake, "val", 200, features=False)
    (row,) = evaluate(lake, MODEL).codes().to_dicts()
    assert (row["error_code"], row["counts"], row["map_x"]) == ("UNCODED", 200, None)
    assert row["distinctions"] == []
    assert sum(row["predicted_shares"]) == pytest.approx(1.0)


def test_new_weights_are_linked_to_the_codes_of_the_weights_before(lake: Lake) -> None:
    write_trace(lake, "val", 600, seed=4)
    first = evaluate(lake, MODEL, result_name="old")
    assert first.codes()["linked_from"].null_count() == first.codes().height
    write_trace(lake, "val", 600, seed=4, model_key="toy@v2", fingerprint="b" * 64, at=START + timedelta(days=1))
    second = evaluate(lake, "toy@v2", result_name="new")
    rows = second.codes().filter(pl.col("error_code") != "UNSEEN")
    # The same outputs under other weights: the cold refit finds the same cells.
    assert rows["linked_from"].to_list() == rows["error_code"].to_list()
    assert set(rows["linked_result"]) == {"old"}
    assert rows["overlap"].min() == pytest.approx(1.0)
    again = evaluate(lake, "toy@v2").codes()
    own = ["evaluation_id", "result_name"]
    assert again.drop(own).equals(second.codes().drop(own)), "a reused codebook keeps its links"
    assert evaluate(lake, MODEL).codes()["linked_from"].null_count() == first.codes().height


def test_codes_and_places_stay_when_labels_change_and_data_are_added(lake: Lake) -> None:
    """The same weights: the codebook is frozen, so a unit keeps its code and a code its name and place."""
    write_trace(lake, "val", 600, seed=4)
    first = evaluate(lake, MODEL)
    labels = (toy_outputs(600, seed=4)[0] + 1) % 4
    write_trace(lake, "val", 600, seed=4, labels=labels, at=START + timedelta(days=1), stream="relabelled")
    write_trace(lake, "test", 300, seed=5)
    second = evaluate(lake, MODEL)
    assert second.row["codebook_ids"] == first.row["codebook_ids"]
    same = ["error_code", "map_x", "map_y", "counts", "typical_input_ids", "predicted_classes"]
    assert second.codes().select(same).equals(first.codes().select(same))
    assert second.codes()["errors"].sum() > first.codes()["errors"].sum() + 300
    both = first.units().collect().join(second.units().collect(), on=["dataset_type", "input_id"])
    assert both.height == 600
    assert both["error_code"].equals(both["error_code_right"].alias("error_code"))


def test_classes_have_their_names(result: StoredResult) -> None:
    book = _codebook(result)
    units = result.units().collect().sort("dataset_type", "input_id")
    names = units["error_code"].to_numpy()
    position = {name: index for index, name in enumerate(book.names)}
    index = np.array([position.get(name, -1) for name in names])
    coding = Coding(book, index, names, units["support_distance"].to_numpy(), names)
    rows = code_rows(units, coding, decision_dataset="val", class_names=("cat", "dog", "<owl>"))
    classes = {name for row in rows["predicted_classes"] for name in row}
    assert classes == {"cat", "dog", "<owl>", "3"}, "an index without a name stays a number"
    assert any(pair == "cat→dog" for row in rows["confusions"] for pair in row)
    assert any(text.startswith("predicted class is <owl> for") for row in rows["distinctions"] for text in row)


def test_a_refit_publishes_the_overlap_of_every_name(lake: Lake) -> None:
    write_trace(lake, "val", 600, seed=4)
    first = evaluate(lake, MODEL)
    assert first.codes()["refit_overlap"].null_count() == first.codes().height
    write_trace(lake, "val", 3000, seed=5, at=START + timedelta(days=1))
    grown = evaluate(lake, MODEL)
    rows = grown.codes().filter(pl.col("refit_overlap").is_not_null())
    old = set(_codebook(first).names)
    assert rows.height == len(old)
    kept = rows.filter(pl.col("error_code").is_in(list(old)))
    assert (kept["refit_overlap"] >= 0.5).all()
    assert (rows.filter(~pl.col("error_code").is_in(list(old)))["refit_overlap"] < 0.5).all()


def test_a_result_older_than_the_table_still_opens(lake: Lake) -> None:
    write_trace(lake, "val", 100)
    stored = evaluate(lake, MODEL, result_name="a")
    lake.remove(EVALUATION_CODES, where={"evaluation_id": [stored.evaluation_id]})
    codes = load_result(lake, "a").codes()
    assert codes.is_empty()
    assert codes.schema == EVALUATION_CODES.polars_schema


def test_maintenance_removes_descriptions_that_no_result_binds(lake: Lake) -> None:
    write_trace(lake, "val", 100)
    stored = evaluate(lake, MODEL, result_name="a")
    rows = stored.codes().with_columns(pl.lit("019b0000-0000-7000-8000-000000000000").alias("evaluation_id"))
    lake.append(EVALUATION_CODES, rows)
    assert remove_unbound(lake, older_than=stored.created_at)["evaluation/codes"] == rows.height
    assert lake.read(EVALUATION_CODES)["evaluation_id"].unique().to_list() == [stored.evaluation_id]


def test_describing_512_codes_of_100_000_units_takes_seconds() -> None:
    """Three seconds are the target; the CPU time of this process is what a busy machine does not change much."""
    rng = np.random.default_rng(0)
    n, n_codes = 100_000, 512
    index = rng.integers(-1, n_codes, n)
    names = (*(f"E{i:03d}" for i in range(n_codes)), "UNSEEN")
    units = pl.DataFrame(
        {
            "dataset_type": ["val"] * n,
            "n_epoch": pl.Series([None] * n, dtype=pl.Int64),
            "input_id": [f"i{i}" for i in range(n)],
            "is_error": rng.random(n) < 0.1,
            "label": rng.integers(0, 100, n),
            "prediction": rng.integers(0, 100, n),
            "confidence": rng.random(n).astype(np.float32),
            "support_distance": rng.random(n).astype(np.float32),
            "metadata": [f'{{"site": "s{i % 7}", "sharpness": {i % 997}}}' for i in range(n)],
            "error_code": np.array(names)[index],
        }
    ).with_columns(
        pl.Series("risk_scores", rng.normal(size=(n, len(SCORE_NAMES))).astype(np.float32)).cast(pl.List(pl.Float32))
    )
    book: Any = SimpleNamespace(
        names=names[:-1],
        n_codes=n_codes,
        centroids=np.zeros((n_codes, 4), dtype=np.float32),
        map_of_codes=lambda: SimpleNamespace(positions=lambda centroids: centroids[:, :2].astype(float)),
    )
    coding = Coding(book, index, np.array(names)[index], units["support_distance"].to_numpy(), np.array(names)[index])
    before = time.process_time()
    rows = code_rows(units, coding, decision_dataset="val")
    spent = time.process_time() - before
    assert rows.height == n_codes + 1
    assert spent < 6.0, f"{spent:.1f} s of CPU"


def _codebook(result: StoredResult) -> Codebook:
    return Codebook.from_bytes(result.artifacts().filter(pl.col("kind") == "codebook")["artifact"][0])


def test_the_policy_has_room_for_512_codes() -> None:
    assert Policy().codes_max == 512
