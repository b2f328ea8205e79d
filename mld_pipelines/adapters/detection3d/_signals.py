"""What can be seen of a live module without importing the library it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["attribute", "find_head", "mro_names", "mro_roots", "named_modules", "portrait"]

_PORTRAIT_CHILDREN = 12


def mro_names(value: Any) -> frozenset[str]:
    """Return the names of a value's class and of all its bases; names survive subclasses and re-implementations."""
    return frozenset(kind.__name__ for kind in type(value).__mro__)


def mro_roots(value: Any) -> frozenset[str]:
    """Return the top-level packages of a value's class and of all its bases, e.g. `mmdet3d`."""
    return frozenset(kind.__module__.split(".")[0] for kind in type(value).__mro__)


def named_modules(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, module) of everything below a module, nearest first; nothing for what is no torch module."""
    level = [("", model)]
    seen = {id(model)}
    while level:
        below = []
        for path, module in level:
            for name, child in getattr(module, "_modules", {}).items():
                if child is not None and id(child) not in seen:
                    seen.add(id(child))
                    below.append((f"{path}.{name}" if path else name, child))
        yield from below
        level = below


def find_head(model: Any, names: Iterable[str]) -> tuple[str, Any] | None:
    """Return path and module of the nearest submodule whose class or a base of it has one of the names."""
    wanted = frozenset(names)
    return next(((path, module) for path, module in named_modules(model) if wanted & mro_names(module)), None)


def attribute(value: Any, path: str) -> Any:
    """Return what a dotted path leads to, through attributes and mappings; None where it breaks off."""
    for step in path.split(".") if path else ():
        if value is None:
            return None
        found = getattr(value, step, None)
        if found is None and hasattr(value, "get"):
            found = value.get(step)
        if found is None and hasattr(value, "_modules"):
            found = value._modules.get(step)
        value = found
    return value


def portrait(model: Any) -> tuple[str, ...]:
    """Return what a person needs to see why a model was not recognised: its classes and its children."""
    kinds = [kind for kind in type(model).__mro__ if kind.__module__.split(".")[0] not in {"builtins", "torch"}]
    lines = ["classes: " + (" → ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds) or "none of its own")]
    children = [f"{name}: {type(child).__name__}" for name, child in getattr(model, "_modules", {}).items()]
    more = len(children) - _PORTRAIT_CHILDREN
    if children:
        lines.append("modules: " + ", ".join(children[:_PORTRAIT_CHILDREN]) + (f" and {more} more" * (more > 0)))
    return tuple(lines)
