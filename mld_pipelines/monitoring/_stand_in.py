"""`StandIn`: an object that is used like the model it wraps."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StandIn"]

_RETURNS_MODEL = frozenset(
    (
        *("apply", "bfloat16", "cpu", "cuda", "double", "eval", "float", "half", "load_state_dict"),
        *("requires_grad_", "share_memory", "to", "to_empty", "train", "type", "xpu"),
    )
)
"""Methods of a module that change or return it: the logger stands in for the module, and looks at the weights again."""


class StandIn:
    """Passes attributes on to the model; what is not found here is the model's."""

    _model: Any

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the model; methods that return the model return the logger."""
        if name.startswith("__") or "_model" not in self.__dict__:
            raise AttributeError(name)
        found = getattr(self._model, name)
        return self._standing_in(found) if name in _RETURNS_MODEL and callable(found) else found

    def _standing_in(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self._weights_may_have_changed()
            return self if result is self._model else result

        return call

    def _weights_may_have_changed(self) -> None:
        """A method that can change the weights was called."""
