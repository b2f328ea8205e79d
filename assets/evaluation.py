"""An evaluation of a model: six tables, one function, the results table written last."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.automation import AUTOMATION_TAG, EVALUATE_NEW_MODEL
from assets.graph import declare, writer_pool
from assets.partitions import MODELS
from assets.reports import evaluation_materializations
from mld_pipelines.tables import TRACES_INPUTS
from resources import LakeResource

__all__ = ["EVALUATION_TABLES", "EvaluationConfig", "evaluation_tables"]

#: Tables of a result, the commit point last.
EVALUATION_TABLES = (
    "evaluation/units",
    "evaluation/metrics",
    "evaluation/issues",
    "evaluation/codes",
    "estimators/models",
    "evaluation/results",
)

_KINDS = {"polars", "deltalake", "scikitlearn"}


class EvaluationConfig(dg.Config):
    """What to evaluate; every field has a default, so the button in the UI works as it is."""

    result_name: str = Field(default="", description="Name of the result; empty makes one.")
    n_epoch: str = Field(default="latest", description="`latest`, `all` or a number.")
    policy: str = Field(default="", description="Policy overrides as a JSON object; empty takes the defaults.")
    trigger: str = Field(default="manual", description="Why: `manual`, `request`, `feedback`, `new_model`, `stress`.")
    again: str = Field(
        default="",
        description="A result to make once more from what it read, with the stress passes finished since; the other "
        "fields but `trigger` are then taken from it.",
    )


@dg.multi_asset(
    name="evaluate_model",
    specs=[
        declare(table, kinds=_KINDS, skippable=True, automation_condition=EVALUATE_NEW_MODEL)
        for table in EVALUATION_TABLES
    ],
    partitions_def=MODELS,
    pool=writer_pool("evaluation/results"),
)
def evaluation_tables(
    context: dg.AssetExecutionContext, config: EvaluationConfig, lake: LakeResource
) -> Iterator[dg.MaterializeResult[Any]]:
    """Evaluate one model: units, metrics, issues, codebook and error estimator, result."""
    from mld_pipelines import evaluation
    from mld_pipelines.diagnosis import Policy

    opened, model_key = lake.open(), context.partition_key
    if AUTOMATION_TAG in context.run.tags:
        if (known := evaluation.current_result(opened, model_key)) is not None:
            context.log.info(f"{model_key} has the result {known}: it is reported, not made again")
            yield from evaluation_materializations(lake, evaluation.load_result(opened, known))
            return
        if not _can_decide(opened, model_key):
            _say_what_is_missing(context, opened, model_key)
            return
    if config.again:
        yield from evaluation_materializations(lake, _again(context, opened, config))
        return
    stored = evaluation.evaluate(
        opened,
        model_key,
        result_name=config.result_name or None,
        n_epoch=evaluation.parse_spec(config.n_epoch),
        policy=Policy.from_json(config.policy) if config.policy else None,
        trigger="new_model" if AUTOMATION_TAG in context.run.tags else config.trigger,
        run_id=context.run.run_id,
        progress=context.log.info,
    )
    yield from evaluation_materializations(lake, stored)


def _again(context: dg.AssetExecutionContext, lake: Any, config: EvaluationConfig) -> Any:
    """Make a result of the partition's model once more from what it read."""
    from mld_pipelines import evaluation
    from mld_pipelines.exceptions import InvalidInputError

    model_key = evaluation.load_result(lake, config.again).model_key
    if model_key != context.partition_key:
        raise InvalidInputError(
            f"result {config.again!r} is of {model_key}, the partition is {context.partition_key}; nothing was "
            f"evaluated. Launch the partition {model_key}."
        )
    return evaluation.evaluate_again(
        lake, config.again, trigger=config.trigger, run_id=context.run.run_id, progress=context.log.info
    )


def _can_decide(lake: Any, model_key: str) -> bool:
    datasets = lake.scan(TRACES_INPUTS, model_key=model_key).select(pl.col("dataset_type").unique()).collect()
    return any(_decides(name) for name in datasets["dataset_type"])


def _decides(dataset: str) -> bool:
    return dataset.lower() not in {"train", "production"}


def _say_what_is_missing(context: dg.AssetExecutionContext, lake: Any, model_key: str) -> None:
    """Log why an automatic run waits; rows that were refused are not told as rows that never came."""
    from mld_pipelines import evaluation

    refused, rows = evaluation.refusals(lake, model_key), evaluation.refused_rows(lake, model_key)
    counts = rows.group_by("dataset_type").agg(pl.col("refused").sum()).sort("dataset_type")
    missing = [f"{count} of {name!r}" for name, count in counts.iter_rows() if _decides(name)]
    if missing:
        context.log.warning(
            f"every row of {model_key} that could decide was refused, {', '.join(missing)}: {refused}. See "
            "`mld tables show ops/quarantine`; the evaluation waits for another trace."
        )
        return
    told = f"; {refused}, see `mld tables show ops/quarantine`" if refused else ""
    context.log.info(
        f"only training data of {model_key} was traced to the end so far: waiting for another dataset{told}"
    )
