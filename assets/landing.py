"""Landing tables: written by tracers, loggers and trace runs, so external to Dagster."""

from __future__ import annotations

from assets.graph import declare
from mld_pipelines.tables import CATALOGUE

__all__ = ["LANDING"]

#: One external asset per landing table; the sensors that see a commit report its materialisation.
LANDING = [declare(name, kinds={"deltalake"}) for name, spec in CATALOGUE.items() if spec.layer == "landing"]
