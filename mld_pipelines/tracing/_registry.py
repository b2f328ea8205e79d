"""Registered models and datasets: names under which the platform can build them again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from mld_pipelines.adapters.detection3d import check_arguments
from mld_pipelines.compute import WorkerSpec, resolve
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.records import model_key
from mld_pipelines.stress import find_families
from mld_pipelines.tables import OPS_MODELS
from mld_pipelines.tracing._schemes import parse_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.lake import Lake

__all__ = ["Registration", "find_registration", "list_registrations", "register_dataset", "register_model"]

Kind = Literal["model", "dataset"]


@dataclass(frozen=True, slots=True)
class Registration:
    """A factory the platform can call by name.

    Attributes:
        kind: What the factory makes: `model` (a `torch.nn.Module`) or `dataset` (see `LabeledDataset`).
        name: Name of the registration.
        factory: `module:function`.
        params: Keyword arguments of the factory; JSON values.
        registered_at: When, UTC.
        model_name: Name under which traces are recorded (models only).
        version_name: Version under which traces are recorded (models only).
        families: Corruption families of a stress pass: `image`, `tabular`, `points` or `module:function`; None takes
            what fits the shape of the inputs, of frames `points` (models only).
        settings: What a tracer would be told about the detector: `architecture`, `box_convention`, `pc_range`,
            `score_thresh`, `iou_thresh`, `max_detections_per_frame` (detectors only).
    """

    kind: Kind
    name: str
    factory: str
    params: Mapping[str, Any]
    registered_at: datetime
    model_name: str | None = None
    version_name: str | None = None
    families: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_key(self) -> str:
        """`model_name@version_name`.

        Raises:
            InvalidInputError: This is a dataset.
        """
        if self.model_name is None or self.version_name is None:
            raise InvalidInputError(f"registration {self.name!r} is a {self.kind}; only models have a model key.")
        return model_key(self.model_name, self.version_name)


def register_model(
    lake: Lake,
    name: str,
    *,
    factory: str,
    model_name: str,
    version_name: str,
    params: Mapping[str, Any] | None = None,
    families: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Registration:
    """Register a model, replacing an earlier registration of this name.

    Args:
        lake: Where the registration is kept.
        name: Name to trace it by.
        factory: `module:function` that returns a `torch.nn.Module` with its weights; it is called in every worker.
        model_name: Model identifier of the traces.
        version_name: Version identifier of the traces.
        params: Keyword arguments of the factory (JSON values).
        families: Corruption families of a stress pass: `image`, `tabular`, `points` or `module:function`; None takes
            what fits the shape of the inputs, of frames `points`.
        settings: Of a detector, what its tracer would be told: `architecture`, `box_convention`, `pc_range`,
            `score_thresh`, `iou_thresh`, `max_detections_per_frame`; None leaves all to the model.

    Raises:
        ConfigurationError: A factory or the families' function cannot be imported from here.
        InvalidInputError: A name is malformed, the parameters are not JSON values, or a setting cannot be used.
    """
    model_key(model_name, version_name)
    if families is not None and families != "tabular":
        find_families(families)
    now, said = datetime.now(UTC), check_arguments(settings or {})
    entry = Registration("model", name, factory, dict(params or {}), now, model_name, version_name, families, said)
    return _register(lake, entry)


def register_dataset(lake: Lake, name: str, *, factory: str, params: Mapping[str, Any] | None = None) -> Registration:
    """Register a dataset, replacing an earlier registration of this name.

    Args:
        lake: Where the registration is kept.
        name: Name to trace it by.
        factory: `module:function` that returns the dataset; see `LabeledDataset` for what it may be.
        params: Keyword arguments of the factory (JSON values).

    Raises:
        ConfigurationError: The factory cannot be imported from here.
        InvalidInputError: The name is malformed or the parameters are not JSON values.
    """
    return _register(lake, Registration("dataset", name, factory, dict(params or {}), datetime.now(UTC)))


def _register(lake: Lake, entry: Registration) -> Registration:
    name = entry.name
    if not name or name != name.strip() or not name.isprintable():
        raise InvalidInputError(f"registration name {name!r} must be printable, not empty and not padded with spaces.")
    WorkerSpec(entry.factory, entry.params)  # refuses what JSON cannot carry
    resolve(entry.factory)
    lake.upsert(OPS_MODELS, _frame(entry))
    return entry


def list_registrations(lake: Lake, *, kind: Kind | None = None) -> list[Registration]:
    """Return the registrations, sorted by kind and name.

    Args:
        lake: Where they are kept.
        kind: Only models or only datasets.
    """
    rows = lake.read(OPS_MODELS).sort("kind", "name").iter_rows(named=True)
    return [_entry(row) for row in rows if kind in {None, row["kind"]}]


def find_registration(lake: Lake, name: str, *, kind: Kind) -> Registration:
    """Return the registration of a name.

    A dataset may also be a folder in a public format, which needs none: `kitti:/path?split=val`.

    Raises:
        InvalidInputError: The name of a folder is malformed.
        NotFoundError: There is none; the message lists those that exist.
    """
    entries = {entry.name: entry for entry in list_registrations(lake, kind=kind)}
    if name not in entries:
        folder = parse_folder(name) if kind == "dataset" else None
        if folder is not None:
            factory, params = folder
            return Registration("dataset", name, factory, params, datetime.now(UTC))
        known = ", ".join(map(repr, entries)) or "none"
        raise NotFoundError(
            f"no {kind} {name!r} is registered; registered {kind}s: {known}. Register it with `mld models register`."
        )
    return entries[name]


def _frame(entry: Registration) -> pl.DataFrame:
    return OPS_MODELS.align(
        pl.DataFrame(
            {
                "name": [entry.name],
                "kind": [entry.kind],
                "factory": [entry.factory],
                "params": [json.dumps(dict(entry.params), sort_keys=True)],
                "model_name": [entry.model_name],
                "version_name": [entry.version_name],
                "registered_at": [entry.registered_at],
                "families": [entry.families],
                "settings": [json.dumps(dict(entry.settings), sort_keys=True) if entry.settings else None],
            },
            schema_overrides={
                "families": pl.String,
                "settings": pl.String,
                "model_name": pl.String,
                "version_name": pl.String,
                "registered_at": OPS_MODELS.column("registered_at").data_type,
            },
        )
    )


def _entry(row: dict[str, Any]) -> Registration:
    return Registration(
        kind=row["kind"],
        name=row["name"],
        factory=row["factory"],
        params=json.loads(row["params"]),
        model_name=row["model_name"],
        version_name=row["version_name"],
        registered_at=row["registered_at"],
        families=row["families"],
        settings=json.loads(row["settings"] or "{}"),
    )
