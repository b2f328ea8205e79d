"""What a roll-up is compared with, and what one step did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.diagnosis import DetectionWindowReference, WindowMap, WindowReference
    from mld_pipelines.windows import Baseline

__all__ = ["References", "Refresh"]


@dataclass(frozen=True, slots=True)
class References:
    """What production is compared with, by result name; maps where a stress pass verified the result."""

    baselines: Mapping[str, Baseline]
    windows: Mapping[str, WindowReference | DetectionWindowReference]
    maps: Mapping[str, WindowMap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refresh:
    """What one step did.

    Attributes:
        version: Delta version of the table that holds the rows, None before its first commit.
        rows: Rows written.
        read: Rows of the source that were read.
        quarantined: Rows that broke the contract.
    """

    version: int | None
    rows: int = 0
    read: int = 0
    quarantined: int = 0
