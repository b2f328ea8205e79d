"""The original's guides as code: indentation restored, and only what a reader has to fill in substituted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

GUIDES = Path(__file__).parents[2] / ".." / "shared" / "reference"
TRACING, LOGGING = "001_tracing_evaluation.txt", "000_logging.txt"
CODE = (
    *("from ", "import ", "for ", "with ", "#", ")", "_ =", "print(", "tracer", "evaluator", "result =", "result."),
    *("issues_df", "image", "label", "model,", "model_name=", "version_name=", "result_name=", "input_ids="),
    *("dataset_type=", "n_epoch=", "groupby=", "adjustby="),
)
"""How lines of code begin in the sections that mix them with prose, tables and printed examples."""


def lines_between(guide: str, first: str, last: str, *, after: str = "", holding: str = "") -> list[str]:
    """Return the lines of a guide from one line to another: the first such lines behind a heading that hold a text."""
    lines = (GUIDES / guide).read_text(encoding="utf-8").splitlines()
    begin = lines.index(first, lines.index(after) if after else 0)
    while True:
        found = lines[begin : lines.index(last, begin) + 1]
        if any(holding in line for line in found):
            return found
        begin = lines.index(first, begin + 1)


def only_code(lines: list[str]) -> list[str]:
    """Leave out the prose, tables and printed examples between the snippets of a section."""
    return [line for line in lines if line.startswith(CODE)]


def indented(lines: list[str]) -> list[str]:
    """Restore the indentation: a loop lasts to the next comment after its first call ends, a `with` one statement."""
    restored: list[str] = []
    level, brackets, with_level = 0, 0, 0
    for position, line in enumerate(lines):
        if brackets == 0 and line.startswith("#") and not _goes_on(lines[position + 1 :], level):
            level = 0
        restored.append("    " * level + line)
        code = line.split("  #")[0] if line.startswith("#") else line.split(" #")[0]
        if line.startswith("#"):
            continue
        brackets += sum(code.count(c) for c in "([{") - sum(code.count(c) for c in ")]}")
        if brackets:
            continue
        if code.endswith(":"):
            level += 1
            with_level = level if code.startswith("with ") else with_level
        elif level and level == with_level:
            level, with_level = level - 1, 0
    return restored


def _goes_on(rest: list[str], level: int) -> bool:
    """Return whether a comment belongs to the loop it stands in: what follows uses what the loop makes."""
    return level > 0 and bool(rest) and rest[0].startswith(("predictions =", "process_predictions("))


def substituted(lines: list[str]) -> str:
    """Substitute import path, credentials and ellipses, and nothing else.

    `model = ...` takes what is given under that name, `"labels_3d": [0, 1, ...]` goes on with what is given under the
    key, and a line that is an ellipsis with what is given as `more`.
    """
    source = []
    for line in lines:
        changed = line.replace("ml_debugger", "mld_pipelines")
        changed = re.sub(r'^(os\.environ\["MLD_API_ENDPOINT"\] = ).*', r"\1given['endpoint']", changed)
        changed = re.sub(r'^(os\.environ\["MLD_API_KEY"\] = ).*', r"\1'mldbg_test'", changed)
        changed = re.sub(r'^("(\w+)": .*), \.\.\.\]', r"\1, *given['\2']]", changed)
        changed = re.sub(r"^\.\.\.", "*given['more'],", changed)
        source.append(re.sub(r"^(\w+) = \.\.\.", r"\1 = given['\1']", changed))
    return "\n".join(source)


def execute(lines: list[str], names: dict[str, Any]) -> dict[str, Any]:
    """Run a sample in a namespace and return it."""
    exec(compile(substituted(indented(lines)), "sample", "exec"), names)
    return names
