"""Damaged files behind errors of lazy frames: what `Lake.scan` returned fails only when somebody collects it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import CorruptTableError, MldError
from mld_pipelines.lake._errors import corruption
from mld_pipelines.lake._log import find_damage
from mld_pipelines.lake._storage import Storage
from mld_pipelines.tables import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.lake._lake import Lake

__all__ = ["damaged_tables", "explained", "explaining"]


def damaged_tables(lake: Lake) -> dict[str, str]:
    """Return what is damaged, by table: log files, checkpoints, data files; empty for object stores.

    Args:
        lake: The lake; every log and the ends of every data file are read.
    """
    storage = Storage(lake.root)
    found = {name: find_damage(storage, name) for name in CATALOGUE} if storage.is_local else {}
    return {name: damage for name, damage in found.items() if damage is not None}


def explained(lake: Lake, error: BaseException) -> CorruptTableError | None:
    """Return which damaged table an error of polars or the system comes from, None if none is damaged.

    Args:
        lake: The lake that was read.
        error: What collecting a lazy frame raised.
    """
    foreign = isinstance(error, OSError) or type(error).__module__.startswith(("polars", "pyo3_runtime"))
    if isinstance(error, MldError) or not foreign:
        return None
    storage = Storage(lake.root)
    found = [corruption(storage, name, "reading", damage) for name, damage in damaged_tables(lake).items()]
    return found[0] if found else None


@contextmanager
def explaining(lake: Lake) -> Iterator[None]:
    """Raise what a damaged file of a lake causes in a lazy frame as what it is.

    Args:
        lake: The lake that is read.

    Raises:
        CorruptTableError: Which file of which table is missing or damaged.
    """
    try:
        yield
    except BaseException as error:
        if (cause := explained(lake, error)) is None:
            raise
        raise cause from error
