"""Frame → small deterministic SVG: pure functions for asset metadata, reports and pages."""

from __future__ import annotations

from mld_pipelines.figures._agreement import agreement_diagram
from mld_pipelines.figures._bars import CATEGORY_COLOURS, bar_chart
from mld_pipelines.figures._bubbles import bubble_map
from mld_pipelines.figures._distributions import histogram, reliability_diagram
from mld_pipelines.figures._glance import GLANCE_LIMIT, glance
from mld_pipelines.figures._heat import heat_map
from mld_pipelines.figures._lines import line_chart, sparkline
from mld_pipelines.figures._svg import COLOURS, to_data_uri, to_markdown

__all__ = [
    "CATEGORY_COLOURS",
    "COLOURS",
    "GLANCE_LIMIT",
    "agreement_diagram",
    "bar_chart",
    "bubble_map",
    "glance",
    "heat_map",
    "histogram",
    "line_chart",
    "reliability_diagram",
    "sparkline",
    "to_data_uri",
    "to_markdown",
]
