"""Examples are what a user may write: nothing private of ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_examples_use_public_names_only():
    private = [
        f"{path.relative_to(EXAMPLES)}: {module}"
        for path in sorted(EXAMPLES.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        if any(part.startswith("_") and part != "__future__" for part in module.split("."))
    ]
    assert private == []


def test_the_platform_is_a_public_name_that_the_command_line_does_not_pay_for():
    code = (
        "import sys, mld_pipelines.cli as cli; early = 'mld_pipelines.cli._platform' in sys.modules; "
        "from mld_pipelines.cli import Platform, running_platform; "
        "print(early, callable(running_platform), Platform.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "Platform"]
