"""Two detectors on hand-made frames: what counts as found, which frames are common, whose codes are compared."""

from __future__ import annotations

import polars as pl
import pytest

from mld_pipelines.evaluation import evaluate
from mld_pipelines.evaluator import Result
from mld_pipelines.evaluator._detection_comparison import FrameSide, compare_detectors
from mld_pipelines.evaluator._pairing import Side
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import EVALUATION_UNITS
from tests.support.traced_frames import write_frames

BOX = [10.0, 0.0, 0.0, 2.0, 4.0, 1.5, 0.0]
NAMES = ("dataset_type", "input_id", "input_hash", "unit_kind", "unit_index", "outcome", "is_error", "label", "box_3d",
         "range_m", "confidence", "error_code", "ate", "error_proba")  # fmt: skip


def thing(frame, outcome, *, index=0, missed=None, **known):
    """An object; one that is not found is missed unless a prediction is mistaken about it."""
    is_error = outcome == "fn" if missed is None else missed
    return {"input_id": frame, "unit_kind": "object", "unit_index": index, "outcome": outcome, "is_error": is_error,
            "label": 0, "box_3d": BOX, "range_m": 10.0, "confidence": 0.9, "error_code": "M001"} | known  # fmt: skip


def claim(frame, outcome, *, index=0, **known):
    return {"input_id": frame, "unit_kind": "prediction", "unit_index": index, "outcome": outcome,
            "is_error": outcome == "fp", "label": 0, "box_3d": BOX, "range_m": 10.0, "confidence": 0.9,
            "error_code": "P001", "ate": 0.5 if outcome == "tp" else None, "error_proba": 0.25} | known  # fmt: skip


def side(name, units, frames, *, hashes=None, lineage=None):
    rows = [{"dataset_type": "val", "input_hash": None} | one for one in units]
    schema = {column: EVALUATION_UNITS.column(column).data_type for column in NAMES}
    known = pl.DataFrame(
        {"dataset": ["val"] * len(frames), "input_id": frames, "input_hash": hashes or [f"h{f}" for f in frames]}
    )
    table = pl.DataFrame([{column: row.get(column) for column in NAMES} for row in rows], schema=schema)
    return FrameSide(Side(name, table, lineage), known)


def compared(before, after, **options):
    return compare_detectors(before, after, **{"dataset": None, "n_boot": 100, "seed": 0, "level": 0.95} | options)


def values(comparison):
    return {row["metric"]: (row["before"], row["after"]) for row in comparison.metrics.iter_rows(named=True)}


def test_an_object_that_a_prediction_was_mistaken_about_was_not_found():
    before = side("a", [thing("f", "fn", missed=False), claim("f", "fp")], ["f"])
    after = side("b", [thing("f", "tp"), claim("f", "tp")], ["f"])
    found = compared(before, after)
    assert found.accuracy.select("right_both", "fixed", "broken", "wrong_both").row(0) == (0, 1, 0, 0)
    assert values(found)["recall"] == (0.0, 1.0)
    assert values(found)["accuracy"] == (0.0, 1.0)  # one unit: the prediction that is mistaken


def test_a_frame_in_which_one_side_has_no_box_is_common():
    """The second detector drops a false box: its frame must not drop out."""
    before = side("a", [claim("empty", "fp"), thing("f", "tp"), claim("f", "tp")], ["empty", "f"])
    after = side("b", [thing("f", "tp"), claim("f", "tp")], ["empty", "f"])
    found = compared(before, after)
    assert found.n_common == 2
    assert values(found)["precision"] == (0.5, 1.0)
    assert values(found)["ate"] == (0.5, 0.5)


def test_frames_of_other_content_or_truth_are_counted_and_left_out():
    moved = [11.0, *BOX[1:]]
    before = side("a", [thing(f, "tp") for f in "wxyz"], list("wxyz"))
    after = side(
        "b", [thing("w", "tp"), thing("x", "tp"), thing("y", "tp", box_3d=moved), thing("z", "tp"),
              thing("z", "tp", index=1)], list("wxyz"), hashes=["hw", "other", "hy", "hz"],
    )  # fmt: skip
    found = compared(before, after)
    row = found.common.row(0, named=True)
    assert (row["same_id"], row["common"], row["other_content"], row["other_label"]) == (4, 1, 1, 2)


def test_frames_without_hashes_rest_on_their_ids():
    sides = [side(name, [thing("f", "tp")], ["f"], hashes=[None]) for name in "ab"]
    found = compared(*sides)
    assert found.common["unhashed"].to_list() == [1]
    assert any("carry no input_hash" in note for note in found.notes)


def test_nothing_in_common_is_refused():
    with pytest.raises(InvalidInputError, match="no common frame"):
        compared(side("a", [thing("f", "tp")], ["f"]), side("b", [thing("g", "tp")], ["g"]))
    with pytest.raises(InvalidInputError, match="no common dataset 'rain'"):
        compared(side("a", [thing("f", "tp")], ["f"]), side("b", [thing("f", "tp")], ["f"]), dataset="rain")


def test_lists_name_objects_and_the_best_seen_first():
    before = side("a", [thing("f", "fn", index=i, confidence=0.0) for i in range(3)], ["f"])
    after = side("b", [thing("f", "tp", index=i, confidence=c) for i, c in enumerate((0.5, 0.9, 0.7))], ["f"])
    assert compared(before, after).fixed["unit_index"].to_list() == [1, 2, 0]
    assert compared(after, before).broken["unit_index"].to_list() == [1, 2, 0]


@pytest.mark.parametrize(("lineages", "linked"), [(("x", "x"), 0), (("x", "y"), 1), ((None, None), 0)])
def test_codes_of_other_lineages_are_linked_by_the_objects_they_share(lineages, linked):
    before, after = (
        side(name, [thing("f", "tp", index=i, error_code=code) for i in range(4)], ["f"], lineage=lineage)
        for name, code, lineage in zip("ab", ("M001", "M007"), lineages, strict=True)
    )
    found = compared(before, after)
    assert found.links.height == linked
    assert found.transitions["same_place"].to_list() == [linked == 1]


def test_the_lineage_is_that_of_the_codes_of_objects(tmp_path):
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 30, seed=1)
    result = Result(evaluate(lake, "pillars@v1"))
    books = dict(result._stored.artifacts().select("kind", "lineage_id").iter_rows())
    assert result._side(None).lineage_id == books["object_codebook"] != books["codebook"]
