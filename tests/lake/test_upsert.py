"""`Lake.upsert`, pins and unpins: small tables rewritten under a transaction."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from mld_pipelines.exceptions import ContractError, InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_TRACES, OPS_MODELS, OPS_PINS, TRACES_INPUTS


def test_a_new_key_is_inserted_and_a_known_one_replaced(lake, model_rows):
    lake.upsert(OPS_MODELS, model_rows("a", "b"))
    lake.upsert(OPS_MODELS, model_rows("b", "c", params='{"x": 1}'))
    stored = lake.read(OPS_MODELS).sort("name").select("name", "params").rows()
    assert stored == [("a", "{}"), ("b", '{"x": 1}'), ("c", '{"x": 1}')]


def test_an_upsert_that_changes_nothing_makes_no_commit(lake, model_rows):
    first = lake.upsert(OPS_MODELS, model_rows("a"))
    assert lake.upsert(OPS_MODELS, model_rows("a")).version == first.version


def test_rows_that_share_a_key_are_refused(lake, model_rows):
    with pytest.raises(ContractError, match="share a key"):
        lake.upsert(OPS_MODELS, model_rows("a", "a"))


def test_rows_that_break_a_rule_are_refused_as_a_whole(lake, model_rows):
    broken = model_rows("a", "b").with_columns(factory=pl.Series(["module:function", "nothing"]))
    with pytest.raises(ContractError, match="'factory' breaks the rule"):
        lake.upsert(OPS_MODELS, broken)
    assert lake.read(OPS_MODELS).is_empty()


@pytest.mark.parametrize("spec", [LANDING_TRACES, TRACES_INPUTS])
def test_large_tables_have_no_upsert(lake, rows, spec):
    with pytest.raises(InvalidInputError, match="no upsert"):
        lake.upsert(spec, rows())


def test_concurrent_upserts_of_different_lakes_all_survive(tmp_path, model_rows):
    # Each lake has its own handles, as another process would.
    lakes = [Lake(str(tmp_path / "lake"), code_version=str(number)) for number in range(4)]

    def register(number: int) -> None:
        for turn in range(5):
            lakes[number].upsert(OPS_MODELS, model_rows(f"{number}-{turn}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(register, range(4)))
    stored = lakes[0].read(OPS_MODELS)["name"].to_list()
    assert sorted(stored) == sorted(f"{number}-{turn}" for number in range(4) for turn in range(5))


def test_pins_are_kept_per_result_and_table(lake):
    lake.pin("r1", {"landing/traces": 3, "traces/inputs": 4})
    lake.pin("r1", {"landing/traces": 5})
    lake.pin("r2", {"landing/traces": 5})
    lake.unpin("r2")
    assert lake.read(OPS_PINS).sort("table").select("result_name", "table", "version").rows() == [
        ("r1", "landing/traces", 5),
        ("r1", "traces/inputs", 4),
    ]


@pytest.mark.parametrize("before", [(), ("old",)])
def test_an_upsert_that_was_overtaken_starts_again(lake, model_rows, before):
    # Into an empty table two stale overwrites would both pass Delta's own check, and the key would be there twice.
    other = Lake(lake.root, code_version="other")
    lake.upsert(OPS_MODELS, model_rows(*before))
    seen = []

    def change(old: pl.DataFrame) -> pl.DataFrame:
        seen.append(sorted(old["name"]))
        if len(seen) == 1:
            other.upsert(OPS_MODELS, model_rows("same"))
        return pl.concat([old.filter(pl.col("name") != "same"), model_rows("same", params='{"ours": 1}')])

    lake._rewrite(OPS_MODELS, change, None)
    assert seen == [[*before], [*before, "same"]]
    assert lake.read(OPS_MODELS, name="same")["params"].to_list() == ['{"ours": 1}']
