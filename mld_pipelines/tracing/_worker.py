"""The worker of a trace run: builds model and dataset, turns a range of items into numpy columns."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters import Probe, fingerprint, input_hashes, judge_scores, pooled
from mld_pipelines.capture import Identity, float_array, microseconds, model_row
from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.tracing._datasets import open_dataset
from mld_pipelines.tracing._seeds import seeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters import Seen

__all__ = ["ClassificationTraceWorker", "built_model", "check_weights", "moved", "one_thread"]


class ClassificationTraceWorker:
    """Traces ranges of a dataset with a classification model.

    The same function runs inline and in a Ray actor, always with one torch thread: convolutions add up in another order
    on more threads, and the tables of both backends must be equal.

    Args:
        model_name: Model identifier of the traces.
        version_name: Version identifier of the traces.
        model_factory: `module:function` that returns a `torch.nn.Module`; it is put into eval mode.
        model_params: Keyword arguments of the factory.
        dataset_factory: `module:function` that returns a dataset (see `LabeledDataset`).
        dataset_params: Keyword arguments of the factory.
        seed: Seeds the factories, and with the first item of a batch every batch.
        device: Device to move the model to; None leaves it where the factory put it.

    Raises:
        ConfigurationError: The model factory returned something else.
    """

    def __init__(
        self,
        *,
        model_name: str,
        version_name: str,
        model_factory: str,
        model_params: Mapping[str, Any],
        dataset_factory: str,
        dataset_params: Mapping[str, Any],
        seed: int,
        device: str | None = None,
    ) -> None:
        self._model = built_model(model_factory, model_params, seed=seed, device=device)
        with seeded(seed):
            self._dataset = open_dataset(dataset_factory, dataset_params)
        self._identity = Identity(model_name, version_name)
        self._seed = seed
        self._probe = Probe(self._model)
        self._fingerprint = fingerprint(self._model)
        self._is_described = False

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return scores, features and identities of the items from `start` to `stop` (the parts of a `TraceCall`).

        Args:
            batch: `start` and `stop`.

        Raises:
            InvalidInputError: An item is malformed, or a label is outside the model's classes.
        """
        start, stop = int(batch["start"]), int(batch["stop"])
        with seeded(self._seed, start), one_thread():
            examples = self._dataset.read(start, stop)
            inputs = self._collate(examples.inputs)
            if self._dataset.preprocess is not None:
                inputs = self._dataset.preprocess(inputs)
            return self._columns(inputs, examples.labels, examples.input_ids)

    def _collate(self, inputs: list[Any]) -> Any:
        if self._dataset.collate is not None:
            return self._dataset.collate(inputs)
        from torch.utils.data import default_collate

        return default_collate(inputs)

    def _columns(self, inputs: Any, labels: list[int], input_ids: list[str]) -> dict[str, NDArray[Any]]:
        """Run the model on a batch; return the parts of a `TraceCall`."""
        hashes = input_hashes(inputs, len(labels))  # before the pass: models edit their inputs in place
        seen = self._forward(inputs)
        scores = float_array(seen.scores)
        _check_labels(labels, scores.shape[1], input_ids)
        columns: dict[str, NDArray[Any]] = {
            "scores": scores,
            "labels": np.array(labels, dtype=np.int64),
            "input_ids": np.array(input_ids),
            "hashes": np.array(hashes),
            "captured_at": np.array([microseconds()], dtype=np.int64),
            "fingerprint": np.array([self._fingerprint]),
            "path": np.array([str(self._probe.path)]),
            "feature_layer": np.array([self._probe.feature_layer or ""]),
        }
        feature = None if seen.feature is None else pooled(seen.feature, len(labels))
        if feature is not None:
            columns["feature"] = float_array(feature)
        if not self._is_described:
            columns |= self._describe(columns)
            self._is_described = True
        return columns

    def _forward(self, inputs: Any) -> Seen:
        import torch

        parameter = next(self._model.parameters(), None)
        inputs = inputs if parameter is None else moved(inputs, parameter.device)
        with torch.inference_mode():
            return self._probe.call(inputs)

    def _describe(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the row of `landing/models` about the weights; sent once per worker."""
        verdict = judge_scores(columns["scores"])
        n_classes = columns["scores"].shape[1]
        names = self._dataset.class_names
        row = model_row(
            self._identity,
            architecture=type(self._model).__name__,
            fingerprint=self._fingerprint,
            output_kind="logits" if verdict is None else verdict.kind,
            feature_layer=self._probe.feature_layer,
            feature_dim=columns["feature"].shape[1] if "feature" in columns else None,
            n_classes=n_classes,
            class_names=names if names is not None and len(names) == n_classes else None,
            head=self._probe.head,
        )
        head = row.pop("head")
        described: dict[str, NDArray[Any]] = {"model_row": np.array([json.dumps(row)])}
        return described if head is None else described | {"model_head": np.frombuffer(head, dtype=np.uint8)}


def built_model(factory: str, params: Mapping[str, Any], *, seed: int, device: str | None) -> torch.nn.Module:
    """Return the model of a factory, in eval mode.

    Raises:
        ConfigurationError: The factory returned something else.
    """
    import torch

    with seeded(seed):
        model = resolve(factory)(**params)
    if not isinstance(model, torch.nn.Module):
        raise ConfigurationError(
            f"model factory {factory!r} returned a {type(model).__name__}; it must return a torch.nn.Module."
        )
    return (model if device is None else model.to(device)).eval()


def check_weights(found: str, expected: str) -> None:
    """Refuse a model whose weights are not those that were traced.

    Args:
        found: Fingerprint of the model.
        expected: Fingerprint of the trace.

    Raises:
        ConfigurationError: They differ.
    """
    if found != expected:
        raise ConfigurationError(
            f"the registered model has the weights {found[:12]}…, the trace was made with {expected[:12]}…; nothing "
            "was run. Trace the registered model again."
        )


def _check_labels(labels: list[int], n_classes: int, input_ids: list[str]) -> None:
    for label, input_id in zip(labels, input_ids, strict=True):
        if not 0 <= label < n_classes:
            raise InvalidInputError(f"label {label} of input {input_id!r} is outside the model's {n_classes} classes.")


def moved(inputs: Any, device: torch.device) -> Any:
    """Return inputs on a device, whatever they are nested in."""
    if hasattr(inputs, "to"):
        return inputs.to(device)
    if isinstance(inputs, dict):
        return {name: moved(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return type(inputs)([moved(value, device) for value in inputs])
    return inputs


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
