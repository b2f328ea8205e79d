"""Names of the form `module:attribute`."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, cast

from mld_pipelines.exceptions import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["resolve"]

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def resolve(name: str) -> Callable[..., Any]:
    """Return the callable that `"package.module:attribute"` names.

    The module must be importable from the working directory or `sys.path`.

    Raises:
        InvalidInputError: The name is not of this form.
        ConfigurationError: The module cannot be imported, lacks the attribute, or the attribute is not callable.
    """
    if not _NAME.fullmatch(str(name)):
        raise InvalidInputError(f"{name!r} is not of the form 'package.module:name'; name an importable callable.")
    module_name, _, path = name.partition(":")
    found: Any = _import(module_name, name)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise ConfigurationError(f"{name!r}: module {module_name!r} was imported but has no {path!r}.")
        found = getattr(found, attribute)
    if callable(found):
        return cast("Callable[..., Any]", found)
    raise ConfigurationError(f"{name!r} is a {type(found).__name__}, not a class or function that can be called.")


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError) and module_name.startswith(str(error.name)):
            hint = " Start from the folder that holds it, or add that folder to PYTHONPATH."
        raise ConfigurationError(
            f"{name!r}: importing module {module_name!r} failed ({type(error).__name__}: {error}).{hint}"
        ) from error
