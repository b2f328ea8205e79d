"""Importing is cheap and silent: checked in fresh interpreters."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("dagster", "ray", "great_expectations", "pandas", "sklearn", "scipy", "torch")
SDK_DOORS = ("mld_pipelines.training", "mld_pipelines.monitoring", "mld_pipelines.evaluator")


def loaded_after(statement: str, *flags: str) -> set[str]:
    """Top-level modules in `sys.modules` after a statement ran in a new interpreter."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_sdk_loads_nothing_heavy():
    assert loaded_after(f"import {', '.join(SDK_DOORS)}") & set(HEAVY) == set()


def test_importing_the_command_line_loads_nothing_heavy_and_no_frames():
    assert loaded_after("import mld_pipelines.cli") & {*HEAVY, "polars", "deltalake", "numpy"} == set()


def test_every_module_imports_without_a_warning(sdk):
    names = [module.name for module in sdk if not module.name.endswith("__main__")]
    loaded = loaded_after(f"import {', '.join(names)}", "-W", "error")
    assert loaded & {"dagster", "ray", "great_expectations", "pandas", "torch"} == set()
