"""`Probe`: call a model as its user would and see scores and feature, leaving nothing behind."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters._heads import Head, HeadSearch, head_named
from mld_pipelines.adapters._outputs import ScorePath, score_candidates
from mld_pipelines.adapters._taps import CompiledTap, FeatureTap
from mld_pipelines.adapters._wrappers import is_compiled, is_data_parallel, unwrap
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["Probe", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one call showed.

    Attributes:
        output: The model's own output object.
        scores: (N, K) tensor inside it.
        feature: The head's input, not yet pooled; None where the model has no head or it was not called.
    """

    output: Any
    scores: torch.Tensor
    feature: torch.Tensor | None


class Probe:
    """Knows where a model keeps its scores and feature; learns it at the first call.

    Args:
        model: Callable, usually a `torch.nn.Module`; mode, gradients, weights and hooks stay as they are.
        feature_layer: Path of the module whose input is the feature, instead of the head that is found.

    Raises:
        InvalidInputError: The model cannot be called, or `feature_layer` names no module of it.
    """

    def __init__(self, model: Any, *, feature_layer: str | None = None) -> None:
        if not callable(model):
            raise InvalidInputError(
                f"the model is a {type(model).__name__}, which cannot be called; pass a torch module."
            )
        self.model = model
        self.head: Head | None = None if feature_layer is None else head_named(model, feature_layer)
        self.path: ScorePath | None = None
        self.attached: FeatureTap | CompiledTap | None = None
        self._is_named = feature_layer is not None
        self._compiled = is_compiled(model)

    @property
    def is_compiled(self) -> bool:
        """Whether `torch.compile` made the model."""
        return self._compiled

    @property
    def is_named(self) -> bool:
        """Whether the caller named the feature layer."""
        return self._is_named

    @property
    def feature_layer(self) -> str | None:
        """Path of the layer whose input is the feature."""
        return None if self.head is None else self.head.path

    def call(self, *args: Any, **kwargs: Any) -> Seen:
        """Call the model with hooks that live exactly as long as the call.

        A compiled model does not run hooks that came after its compilation. In eval mode its feature is read from a
        second, uncompiled pass; in train mode, where a second pass would count, the one pass runs uncompiled.

        Raises:
            InvalidInputError: The output holds nothing of shape (N, K ≥ 2).
        """
        if not self._compiled:
            return self._observed(self.model, args, kwargs)
        if getattr(self.model, "training", False):
            with _uncompiled():
                return self._observed(self.model, args, kwargs)
        output = self.model(*args, **kwargs)
        feature = self._second_pass(args, kwargs)
        return Seen(output, self.scores(output), feature)

    def learn(self, *args: Any, **kwargs: Any) -> None:
        """Find head and scores by a pass of one's own: for a compiled model in eval mode only."""
        self._second_pass(args, kwargs)

    def tap(self) -> FeatureTap | CompiledTap:
        """Return a hook that fits the model."""
        return CompiledTap() if self._compiled else FeatureTap(across_threads=is_data_parallel(self.model))

    def search(self) -> HeadSearch:
        """Return a search that fits the model."""
        return HeadSearch(across_threads=is_data_parallel(self.model))

    def settle(self, search: HeadSearch | None, output: Any) -> Seen:
        """Learn from one watched pass where scores and feature are.

        Args:
            search: Watched the pass; None if nobody did, or the feature layer was named.
            output: What the pass returned.

        Raises:
            InvalidInputError: The output holds nothing of shape (N, K ≥ 2).
        """
        candidates = score_candidates(output)
        found = None if search is None else search.head([scores for _, scores in candidates])
        self.path = candidates[0 if found is None else found[2]][0]
        scores = self.path.follow(output)
        if found is None or self._is_named:
            return Seen(output, scores, None)
        self.head = found[0]
        return Seen(output, scores, found[1].clone())

    def scores(self, output: Any) -> torch.Tensor:
        """Return the scores inside an output, finding out where they are if the output's type is new."""
        if self.path is None or type(output) is not self.path.output_type:
            self.path = score_candidates(output)[0][0]
        found: torch.Tensor = self.path.follow(output)
        return found

    def _second_pass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
        import torch

        with _uncompiled(), torch.no_grad():
            return self._observed(unwrap(self.model), args, kwargs).feature

    def _observed(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
        if self.path is None and not self._is_named:
            return self._discovered(model, args, kwargs)
        if self.head is None:
            output = model(*args, **kwargs)
            return Seen(output, self.scores(output), None)
        tap = FeatureTap(across_threads=is_data_parallel(model))
        tap.attach(self.head)
        try:
            slot = tap.arm()
            output = model(*args, **kwargs)
        finally:
            tap.detach()
        return Seen(output, self.scores(output), tap.take(slot))

    def _discovered(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
        search = self.search()
        with search.watching(model):
            output = model(*args, **kwargs)
        return self.settle(search, output)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run compiled functions as plain Python inside the block."""
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield
