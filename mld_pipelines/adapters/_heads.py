"""Find the head: the last linear layer, whose output the model returned."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters._wrappers import bare_name, modules_by_name
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

__all__ = ["Head", "HeadSearch", "head_named", "pooled"]

_KEPT_CALLS = 16
"""Calls of linear layers that a search remembers: the head is among the last (auxiliary heads come before it)."""


_MIN_STEPS = 24
"""Neighbouring classes in the same order before ranks count as evidence: chance does that once in 2^24 at most."""


@dataclass(frozen=True, slots=True)
class Head:
    """A layer whose input is the feature.

    Attributes:
        module: The layer.
        path: Its path inside the unwrapped model.
        is_linear: Whether its weight maps features to class scores (a named `feature_layer` may be anything).
    """

    module: torch.nn.Module
    path: str
    is_linear: bool


def head_named(model: Any, path: str) -> Head:
    """Return the layer that `feature_layer=` names.

    Raises:
        InvalidInputError: The model has no such module; the message lists the last ones it has.
    """
    if not isinstance(path, str):
        raise InvalidInputError(
            f"feature_layer is a {type(path).__name__}; give the path of a module as a string, such as 'head.fc'."
        )
    modules = modules_by_name(model)
    wanted = bare_name(path)
    if wanted not in modules or not wanted:
        names = [name for name in modules if name]
        raise InvalidInputError(
            f"feature_layer {path!r} is no module of {type(model).__name__}; the last ones are {names[-8:]}."
        )
    return Head(modules[wanted], wanted, _is_linear(modules[wanted]))


class HeadSearch:
    """Watches one forward pass and tells which linear layer made its output.

    Use as `with search.watching(model): output = model(x)`, then `search.head(scores)`. The hooks are gone after the
    block, whether or not the forward pass raised.

    Args:
        across_threads: Look at the passes of all threads (DataParallel), not only at this one's.
    """

    def __init__(self, *, across_threads: bool = False) -> None:
        self._thread = None if across_threads else get_ident()
        self._calls: deque[tuple[str, torch.nn.Module, torch.Tensor, torch.Tensor]] = deque(maxlen=_KEPT_CALLS)

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Hook every linear layer of the model for the length of the block."""
        handles = []
        try:
            for path, module in modules_by_name(model).items():
                if _is_linear(module):
                    handles.append(module.register_forward_hook(self._hook(path)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str) -> Any:
        def remember(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self._thread not in {None, get_ident()}:
                return
            if args and hasattr(args[0], "detach") and hasattr(output, "detach"):
                self._calls.append((path, module, args[0].detach(), output.detach()))

        return remember

    def head(self, scores: Sequence[torch.Tensor]) -> tuple[Head, torch.Tensor, int] | None:
        """Return the layer behind one of the candidate scores, its input in this pass, and which candidate it was.

        A layer made scores if its output is the scores: the same tensor, or equal in value before or after softmax,
        log-softmax or averaging over positions. If no layer did, one that orders the classes of every row alike is
        taken (a temperature or a sigmoid follows it). The last layer that made any wins (an embedding comes before the
        logits), but of several scores of its width the first are meant (auxiliary logits come after the main ones).
        """
        for is_maker in (_made, _ranks_alike):
            last = self._maker(scores, range(len(scores)), is_maker)
            if last is not None:
                width = scores[last[2]].shape[1]
                alike = [position for position, one in enumerate(scores) if one.shape[1] == width]
                return self._maker(scores, alike, is_maker, is_first=True) or last
        return None

    def _maker(
        self,
        scores: Sequence[torch.Tensor],
        positions: Sequence[int],
        is_maker: Callable[[torch.Tensor, torch.Tensor], bool],
        *,
        is_first: bool = False,
    ) -> tuple[Head, torch.Tensor, int] | None:
        pairs = [(call, position) for call in reversed(self._calls) for position in positions]
        if is_first:
            pairs.sort(key=lambda pair: pair[1])  # stable: the last call of the first scores
        for (path, module, given, made), position in pairs:
            if is_maker(made, scores[position].detach()):
                return Head(module, path, is_linear=True), given, position
        return None


def pooled(feature: torch.Tensor, n: int) -> torch.Tensor | None:
    """Return a layer's input as one vector per input (n, d), or None where it cannot be one.

    Channels-first maps (n, d, H, W) are averaged over positions, token sequences (n, T, d) over tokens.
    """
    if feature.dim() == 1 and n == 1:
        return feature.reshape(1, -1)
    if feature.dim() < 2 or feature.shape[0] != n:
        return None
    if feature.dim() == 2:
        return feature
    return feature.flatten(2).mean(-1) if feature.dim() >= 4 else feature.mean(1)


def _is_linear(module: Any) -> bool:
    import torch

    if isinstance(module, torch.nn.Linear):
        return True
    return isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d)) and all(size == 1 for size in module.kernel_size)


def _made(made: torch.Tensor, scores: torch.Tensor) -> bool:
    """Return whether a layer's output is the scores, or becomes them by softmax or log-softmax."""
    import torch

    values, wanted = _comparable(made, scores)
    if values is None:
        return False
    if made.data_ptr() == scores.data_ptr():
        return True
    with torch.no_grad():
        forms = (values, values.softmax(1), values.log_softmax(1))
        return any(torch.allclose(form, wanted, rtol=1e-3, atol=1e-4, equal_nan=True) for form in forms)


def _ranks_alike(made: torch.Tensor, scores: torch.Tensor) -> bool:
    """Return whether a layer's output orders the classes of every row as the scores do, on enough evidence."""
    values, wanted = _comparable(made, scores)
    if values is None:
        return False
    finite = values.isfinite().all(1) & wanted.isfinite().all(1)
    steps = wanted[finite].gather(1, values[finite].argsort(1)).diff(dim=1)
    return bool((steps >= 0).all()) and int((steps > 0).sum()) >= _MIN_STEPS


def _comparable(made: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return a layer's output as (N, K) beside the scores, both in float32; None where the shapes differ."""
    flat = pooled(made, scores.shape[0])
    wanted = scores.flatten(1).float()
    return (None if flat is None or flat.shape != wanted.shape else flat.float()), wanted
