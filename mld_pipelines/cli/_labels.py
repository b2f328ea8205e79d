"""`mld labels`: ground truth that arrives after the inference."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mld_pipelines.cli._answer import Answer
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit
from mld_pipelines.exceptions import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

__all__ = ["app"]

app = group("Join ground truth that arrives after the inference.")

_EXACT = 2.0**53
"""Above, not every whole number is a float."""

_BATCH = 10_000
"""Labels per call: one landing batch each, a few hundred kilobytes."""


@command(app, "import")
def import_labels(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV, Parquet or JSON lines, one label per request.")],
    *,
    request_id_column: Annotated[str, typer.Option(help="Column of the request ids.")] = "request_id",
    label_column: Annotated[str, typer.Option(help="Column of the true class indices.")] = "label",
    source: Annotated[str, typer.Option(help="Who says so; stored with every label.")] = "import",
) -> Answer:
    """Import labels by request id; a later one of a request replaces it. Exit status 6: some were quarantined."""
    from mld_pipelines.monitoring import log_labels

    path = Path(file).expanduser()
    frame = _labels(path, request_id_column, label_column)
    known = frame.drop_nulls()
    # the same file is the same stream: importing it again changes nothing
    stream = (
        f"labels-{hashlib.sha256(path.read_bytes() + f'{request_id_column},{label_column}'.encode()).hexdigest()[:32]}"
    )
    receipts = [
        log_labels(part["request_id"].to_list(), part["label"].to_numpy(), source=source, stream_id=stream)
        for part in known.iter_slices(_BATCH)
    ]
    repeated = sum(receipt.known for receipt in receipts)
    quarantined = sum(receipt.quarantined for receipt in receipts)
    left_out = frame.height - known.height
    imported = known.height - quarantined
    data = {"file": path, "labels": imported, "known": repeated, "quarantined": quarantined, "left_out": left_out}
    text = [f"imported {imported} labels from {path}"]
    text += [f"{repeated} of them were known"] if repeated else []
    text += [f"{quarantined} more broke the contract and are in ops/quarantine"] if quarantined else []
    text += [f"{left_out} rows without request id or label were left out"] if left_out else []
    status = Exit.OK if known.height > repeated else Exit.NOTHING_TO_DO
    return Answer(data, tuple(text), Exit.CHECK_FAILED if quarantined else status)


def _labels(path: Path, request_id_column: str, label_column: str) -> pl.DataFrame:
    import polars as pl

    frame = _read(path)
    missing = [name for name in (request_id_column, label_column) if name not in frame.columns]
    if missing:
        raise InvalidInputError(f"{path} has no column {missing}; it has {frame.columns}. Nothing was imported.")
    return frame.select(
        pl.col(request_id_column).cast(pl.String).alias("request_id"),
        _class_indices(frame[label_column], path).alias("label"),
    )


def _class_indices(labels: pl.Series, path: Path) -> pl.Series:
    """Return labels as integers; whole numbers may be written as text or, where some are missing, as `3.0`."""
    import polars as pl

    if labels.dtype.is_integer() or labels.dtype == pl.Null():
        return labels
    if not (labels.dtype.is_float() or labels.dtype == pl.String()):
        raise InvalidInputError(
            f"column {labels.name!r} of {path} is {labels.dtype}; labels are class indices (integers). Nothing was "
            "imported."
        )
    given = labels.fill_nan(None) if labels.dtype.is_float() else labels
    numbers = given.cast(pl.Float64, strict=False)
    indices = numbers.set(~(numbers == numbers.floor()) | (numbers.abs() >= _EXACT), None).cast(pl.Int64)
    wrong = (given.is_not_null() & indices.is_null()).arg_true()
    if len(wrong):
        raise InvalidInputError(
            f"label {given[wrong[0]]!r} in row {wrong[0] + 1} of {path} (column {labels.name!r}) is no class index; "
            f"labels are integers from 0. {len(wrong)} of {len(given)} rows are like that. Nothing was imported."
        )
    return indices


def _read(path: Path) -> pl.DataFrame:
    import polars as pl

    if not path.is_file():
        raise NotFoundError(f"there is no file {path}.")
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        # every column as text: a guessed type would make "7" of the request id "007"
        ".csv": partial(pl.read_csv, infer_schema=False),
        ".parquet": pl.read_parquet,
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInputError(f"{path} is none of {', '.join(readers)}. Nothing was imported.")
    try:
        return reader(path)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].rstrip(".")  # the rest is advice about arguments of polars
        raise InvalidInputError(f"{path} cannot be read: {reason}. Nothing was imported.") from error
