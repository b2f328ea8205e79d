"""The worker pool of trace runs as a Dagster resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from mld_pipelines.compute import PoolPolicy

__all__ = ["PoolResource"]


class PoolResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How platform runs use workers: in this process, as Ray actors on this machine, or on a Ray cluster."""

    backend: Literal["auto", "inline", "local", "cluster"] = Field(
        default="auto",
        description="`inline`: this process; `local`: Ray here; `cluster`: the Ray of RAY_ADDRESS. `auto`, above one "
        "batch: the cluster where RAY_ADDRESS is set, else local.",
    )
    size: int | None = Field(default=None, description="Workers; empty takes what Ray has free.")
    num_cpus: float = Field(default=1.0, description="CPUs that one worker holds for its whole life.")
    num_gpus: float = Field(default=0.0, description="GPU share one worker holds: 0.5 puts two on a card.")
    post_size: int | None = Field(
        default=None, description="Workers that make rows of a 3D detector's outputs, on CPUs alone; empty: as `size`."
    )
    post_cpus: float = Field(default=1.0, description="CPUs that one of these holds.")
    max_attempts: int = Field(default=3, description="Times an input may fail before it is quarantined.")
    batch_timeout_s: float = Field(default=600.0, description="Seconds one batch may take before its worker is killed.")
    start_timeout_s: float = Field(default=120.0, description="Seconds until the first worker must be ready.")
    working_dir: str | None = Field(
        default=None,
        description="Folder with your code that is copied to the machines of a cluster; empty: it lies there already.",
    )

    def policy(self) -> PoolPolicy:
        """Return the settings as the compute room wants them."""
        from mld_pipelines.compute import PoolPolicy

        return PoolPolicy(
            backend=self.backend,
            size=self.size,
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            post_size=self.post_size,
            post_cpus=self.post_cpus,
            max_attempts=self.max_attempts,
            batch_timeout_s=self.batch_timeout_s,
            start_timeout_s=self.start_timeout_s,
            working_dir=self.working_dir or None,
        )
