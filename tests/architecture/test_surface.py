"""What is public is declared and documented."""

from __future__ import annotations

import ast


def exported(tree: ast.Module) -> list[str] | None:
    """Names of a module's literal `__all__`, or None."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))
    return None


def test_every_module_has_a_docstring(shipped):
    assert [module.name for module in shipped if ast.get_docstring(module.tree) is None] == []


def test_every_room_says_what_it_exports(sdk):
    rooms = [m for m in sdk if m.path.name == "__init__.py" and m.name.count(".") == 1]
    assert [room.name for room in rooms if exported(room.tree) is None] == []


def test_public_functions_and_classes_have_docstrings(shipped):
    undocumented = [
        f"{module.name}.{node.name}"
        for module in shipped
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert undocumented == []


def test_exported_names_exist(sdk):
    missing = []
    for module in sdk:
        defined = {name for node in ast.walk(module.tree) for name in names_bound_by(node)}
        missing += [f"{module.name}.{name}" for name in exported(module.tree) or [] if name not in defined]
    assert missing == []


def names_bound_by(node: ast.AST) -> list[str]:
    """Names that a statement brings into its namespace; string keys count for lazy export tables."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Dict):
        return [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return []
