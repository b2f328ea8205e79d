"""Modules and functions stay small enough to read at once."""

from __future__ import annotations

import ast

MODULE_CEILING = 400
FUNCTION_CEILING = 45


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    documented = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if documented else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_module_is_longer_than_the_ceiling(shipped):
    assert {m.name: m.lines for m in shipped if m.lines > MODULE_CEILING} == {}


def test_no_function_is_longer_than_the_ceiling(shipped):
    long = {
        f"{module.name}.{node.name}": body_lines(node)
        for module in shipped
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > FUNCTION_CEILING
    }
    assert long == {}
