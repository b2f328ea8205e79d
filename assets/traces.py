"""Silver traces of a model: the last write of every traced input, and of every stressed copy."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from assets.graph import RETRY, declare, writer_pool
from assets.partitions import MODELS
from assets.reports import drawings
from assets.stress import STRESS_PASSES
from mld_pipelines.tables import TRACES_INPUTS, TRACES_STRESS
from resources import LakeResource, numbers, provenance

__all__ = ["traces_inputs", "traces_stress"]


@dg.multi_asset(
    name="traces_inputs",
    specs=[declare("traces/inputs")],
    partitions_def=MODELS,
    pool=writer_pool("traces/inputs"),
    retry_policy=RETRY,
)
def traces_inputs(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Deduplicate the finished traces of one model."""
    from mld_pipelines import evaluation
    from mld_pipelines.figures import bar_chart

    opened, model_key = lake.open(), context.partition_key
    promotion = evaluation.promote(opened, model_key, provenance=provenance(context.run.run_id))
    rows = opened.scan(TRACES_INPUTS, model_key=model_key)
    datasets = rows.group_by("dataset_type").agg(pl.len().alias("inputs")).sort("dataset_type").collect()
    chart = bar_chart(datasets, label="dataset_type", value="inputs", title="Traced inputs", is_share=False)
    return lake.result(
        TRACES_INPUTS,
        version=promotion.version,
        rows=promotion.rows,
        frame=rows.head(10).collect(),
        scope="partition",
        metadata={
            **drawings(chart, "traced inputs per dataset", datasets["inputs"].to_list()),
            **numbers({"superseded": promotion.superseded, "changed_inputs": promotion.changed_inputs}),
        },
    )


@dg.multi_asset(
    name="traces_stress",
    specs=[declare("traces/stress", upstream=[STRESS_PASSES], skippable=True)],
    partitions_def=MODELS,
    pool=writer_pool("traces/stress"),
    retry_policy=RETRY,
)
def traces_stress(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[Any]]:
    """Deduplicate the finished stress passes of one model, if there are any."""
    from mld_pipelines import evaluation
    from mld_pipelines.figures import bar_chart

    opened, model_key = lake.open(), context.partition_key
    promotion = evaluation.promote_stress(opened, model_key, provenance=provenance(context.run.run_id))
    if not promotion.rows:
        context.log.info(f"no stress pass of {model_key} is finished")
        return
    rows = opened.scan(TRACES_STRESS, model_key=model_key)
    families = rows.group_by("family").agg(pl.len().alias("copies")).sort("family").collect()
    chart = bar_chart(families, label="family", value="copies", title="Stressed copies", is_share=False)
    yield lake.result(
        TRACES_STRESS,
        version=promotion.version,
        rows=promotion.rows,
        frame=rows.head(10).collect(),
        scope="partition",
        metadata={
            **drawings(chart, "stressed copies per family", families["copies"].to_list()),
            **numbers({"superseded": promotion.superseded}),
        },
    )
