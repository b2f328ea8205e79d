"""The worker of a trace run: builds model and dataset, turns a range of items into numpy columns."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters import Probe, export_head, fingerprint, input_hashes, judge_scores, pooled
from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.tracing._datasets import open_dataset
from mld_pipelines.tracing._seeds import seeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters import Seen

__all__ = ["ClassificationTraceWorker"]


class ClassificationTraceWorker:
    """Traces ranges of a dataset with a classification model.

    The same function runs inline and in a Ray actor, always with one torch thread: convolutions add up in another order
    on more threads, and the tables of both backends must be equal.

    Args:
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
        model_factory: str,
        model_params: Mapping[str, Any],
        dataset_factory: str,
        dataset_params: Mapping[str, Any],
        seed: int,
        device: str | None = None,
    ) -> None:
        import torch

        with seeded(seed):
            model = resolve(model_factory)(**model_params)
        if not isinstance(model, torch.nn.Module):
            raise ConfigurationError(
                f"model factory {model_factory!r} returned a {type(model).__name__}; it must return a torch.nn.Module."
            )
        self._model = (model if device is None else model.to(device)).eval()
        with seeded(seed):
            self._dataset = open_dataset(dataset_factory, dataset_params)
        self._seed = seed
        self._probe = Probe(self._model)
        self._fingerprint = fingerprint(self._model)
        self._is_described = False

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return the columns of the items from `start` to `stop`.

        Args:
            batch: `start` and `stop`.

        Raises:
            InvalidInputError: An item is malformed, or a label is outside the model's classes.
        """
        start, stop = int(batch["start"]), int(batch["stop"])
        with seeded(self._seed, start), _one_thread():
            examples = self._dataset.read(start, stop)
            inputs = _collate(examples.inputs)
            if self._dataset.preprocess is not None:
                inputs = self._dataset.preprocess(inputs)
            hashes = input_hashes(inputs, stop - start)  # before the pass: models edit their inputs in place
            seen = self._forward(inputs)
        columns = self._columns(seen, stop - start)
        n_classes = columns["logits" if "logits" in columns else "probs"].shape[1]
        _check_labels(examples.labels, n_classes, start)
        columns |= {
            "input_id": np.array(examples.input_ids),
            "input_hash": np.array(hashes),
            "label": np.array(examples.labels, dtype=np.int64),
        }
        if not self._is_described:
            columns |= self._describe(columns, n_classes)
            self._is_described = True
        return columns

    def _forward(self, inputs: Any) -> Seen:  # noqa: ANN401 - whatever the model takes
        import torch

        parameter = next(self._model.parameters(), None)
        inputs = inputs if parameter is None else _moved(inputs, parameter.device)
        with torch.inference_mode():
            return self._probe.call(inputs)

    def _columns(self, seen: Seen, n: int) -> dict[str, NDArray[Any]]:
        scores = _array(seen.scores).reshape(n, -1)
        feature = None if seen.feature is None else pooled(seen.feature, n)
        verdict = judge_scores(scores)
        kind = "logits" if verdict is None else verdict.kind
        probabilities = _probabilities(scores, kind)
        columns = {
            "probs": probabilities,
            "prediction": probabilities.argmax(axis=1).astype(np.int64),
            "confidence": probabilities.max(axis=1),
            "captured_at": np.full(n, np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")),
            "fingerprint": np.array([self._fingerprint]),
            "output_kind": np.array([kind]),
            "output_evidence": np.array(["" if verdict is None else verdict.evidence]),
            "feature_layer": np.array([self._probe.feature_layer or ""]),
        }
        if kind == "logits":
            columns["logits"] = scores
        if feature is not None:
            columns["feature"] = _array(feature)
        return columns

    def _describe(self, columns: Mapping[str, NDArray[Any]], n_classes: int) -> dict[str, NDArray[Any]]:
        """Return what `landing/models` holds about the weights; sent once per worker."""
        feature = columns.get("feature")
        facts = {
            "architecture": type(self._model).__name__,
            "output_kind": str(columns["output_kind"][0]),
            "feature_layer": self._probe.feature_layer,
            "feature_dim": None if feature is None else feature.shape[1],
            "n_classes": n_classes,
        }
        head = export_head(self._probe.head)
        described: dict[str, NDArray[Any]] = {"model_facts": np.array([json.dumps(facts)])}
        return described if head is None else described | {"model_head": np.frombuffer(head, dtype=np.uint8)}


def _check_labels(labels: list[int], n_classes: int, start: int) -> None:
    for index, label in enumerate(labels, start):
        if not 0 <= label < n_classes:
            raise InvalidInputError(f"label {label} of item {index} is outside the model's {n_classes} classes.")


def _collate(inputs: list[Any]) -> Any:  # noqa: ANN401 - the user's own structure, batched
    from torch.utils.data import default_collate

    return default_collate(inputs)


def _moved(inputs: Any, device: torch.device) -> Any:  # noqa: ANN401 - the same structure on another device
    if hasattr(inputs, "to"):
        return inputs.to(device)
    if isinstance(inputs, dict):
        return {name: _moved(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return type(inputs)([_moved(value, device) for value in inputs])
    return inputs


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.asarray(tensor.detach().float().cpu().contiguous().numpy())
    return array


def _probabilities(scores: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    if kind == "probabilities":
        return scores
    exact = scores.astype(np.float64)
    powers = np.exp(exact if kind == "log_probs" else exact - exact.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
