"""How many workers fit into what Ray has: computed, because Ray lets what does not fit wait for ever."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["Demand", "count_workers", "what_is_free"]

_log = logging.getLogger(__name__)

_SETTLE_S = 3.0
"""Seconds to wait for the full size: CPUs of a pool just closed come back within about a second (measured)."""

_POLL_S = 0.1

_SLACK = 1e-9
"""Three workers of a third of a GPU fill it, whatever floating point says."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the workers of one stage hold, and how many are wanted.

    Attributes:
        num_cpus: CPUs of one worker.
        num_gpus: GPU share of one worker.
        size: Workers wanted; None takes what fits.
    """

    num_cpus: float
    num_gpus: float
    size: int | None


def count_workers(
    ray: ModuleType, demands: Sequence[Demand], *, timeout_s: float, at_most: int | None = None
) -> list[int]:
    """Return how many workers each stage gets, at most `at_most`, of what Ray has free; at least one each.

    Actors hold their CPUs for life: one too many would wait for ever without an error, so the numbers are computed
    first, node by node: a worker cannot be spread over two machines.

    Args:
        ray: The connected module.
        demands: One per stage; workers are dealt out in turns, so that no stage starves another.
        timeout_s: Seconds to wait until one worker of every stage fits.
        at_most: Batches of the input, where known: no stage gets more.

    Raises:
        WorkerPoolError: Not a single worker of some stage fits within `timeout_s`; it says what is missing.
    """
    began = time.monotonic()
    while True:
        whole = _deal(_nodes(ray), demands, at_most=at_most)
        # Ray tells what is free as a sum only; a worker that fits the sum and no node joins when one has room
        free = _deal([ray.available_resources()], demands, at_most=at_most)
        found = [min(pair) for pair in zip(whole, free, strict=True)]
        waited = time.monotonic() - began
        if min(found) and (found == whole or waited > _SETTLE_S):
            break
        if not min(whole) or waited > timeout_s:
            raise WorkerPoolError(_no_room(ray, demands, waited))
        time.sleep(_POLL_S)
    for demand, size in zip(demands, found, strict=True):
        asked = min(filter(None, (demand.size, at_most))) if demand.size else 1
        if size < asked:
            _log.warning("%d workers were wanted, %d fit into what Ray has free.", asked, size)
    return found


def _nodes(ray: ModuleType) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _deal(nodes: Sequence[dict[str, float]], demands: Sequence[Demand], *, at_most: int | None) -> list[int]:
    """Return the workers of each stage when they are dealt out in turns."""
    limits = [min(filter(None, (demand.size, at_most)), default=math.inf) for demand in demands]
    counts = [0] * len(demands)
    left = [[node.get("CPU", 0.0), node.get("GPU", 0.0)] for node in nodes]
    growing = list(range(len(demands)))
    while growing:
        for stage in tuple(growing):
            if counts[stage] < limits[stage] and _place(left, demands[stage]):
                counts[stage] += 1
            else:
                growing.remove(stage)
    return counts


def _place(left: list[list[float]], demand: Demand) -> bool:
    """Take one worker's share from the first node that has it; return whether there was one."""
    for node in left:
        if node[0] + _SLACK >= demand.num_cpus and node[1] + _SLACK >= demand.num_gpus:
            node[0] -= demand.num_cpus
            node[1] -= demand.num_gpus
            return True
    return False


def _no_room(ray: ModuleType, demands: Sequence[Demand], waited: float) -> str:
    if len(demands) == 1:
        lacking = f"no worker fits: one needs {demands[0].num_cpus:g} CPU and {demands[0].num_gpus:g} GPU"
    else:
        needs = " + ".join(f"{demand.num_cpus:g} CPU and {demand.num_gpus:g} GPU" for demand in demands)
        lacking = f"one worker of each stage does not fit: they need {needs}"
    return (
        f"{lacking}, Ray has {what_is_free(ray)} free after {waited:.0f} s. Nothing was run; lower num_cpus or "
        "num_gpus, end what holds them, or add a machine that has them."
    )


def what_is_free(ray: ModuleType) -> str:
    """Return what Ray has free, for messages: `1 of 4 CPU, 0 of 1 GPU on 2 nodes`."""
    free, total, nodes = ray.available_resources(), ray.cluster_resources(), _nodes(ray)
    has = ", ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
    return has if len(nodes) == 1 else f"{has} on {len(nodes)} nodes"
