"""`ClassificationTracer.stress`: run the wrapped model on corrupted copies of labelled inputs."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters import fingerprint, input_hashes
from mld_pipelines.capture import StressCall, class_labels, microseconds
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import model_key, normalise_input_ids
from mld_pipelines.stress import choose_inputs, plan_stress
from mld_pipelines.tracing import REFERENCE_ROWS, Corruptor, FamilySource, reporting, seeded, stack_inputs
from mld_pipelines.training._arguments import checked_dataset, checked_epoch
from mld_pipelines.training._stress_receipt import StressReceipt
from mld_pipelines.training._stress_stream import StressStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.capture import Columns
    from mld_pipelines.stress import StressPlan, StressSet
    from mld_pipelines.tracing import Progress
    from mld_pipelines.training._classification import ClassificationTracer

__all__ = ["stress"]

_BATCH = 64
"""Copies per forward pass: what a tracer is usually called with; memory stays that of a training step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pass:
    """A stress pass, ready to run.

    Attributes:
        plan: Sets and chosen inputs.
        corruptor: Makes model inputs of raw ones.
        inputs: The chosen inputs, raw.
        labels: Their labels.
        dataset: Their dataset.
        n_epoch: Epoch, or None.
        fingerprint: Weights of the model.
    """

    plan: StressPlan
    corruptor: Corruptor
    inputs: list[Any]
    labels: NDArray[np.int64]
    dataset: str
    n_epoch: int | None
    fingerprint: str

    def stream_id(self, key: str) -> str:
        """The same for the same pass: weights, inputs as the model takes them, labels, families, severities, seed."""
        hashes: list[str] = []
        with seeded(self.plan.seed):  # a preprocessing may draw
            for part in _parts(len(self.inputs)):
                hashes += input_hashes(self.corruptor.clean(self.inputs[part]), part.stop - part.start)
        parts: list[object] = [key, self.fingerprint, self.dataset, self.n_epoch, self.plan.version, self.plan.seed]
        parts += [list(self.plan.input_ids), self.labels.tolist(), hashes, self.corruptor.normalization]
        return "stress-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def stress(
    tracer: ClassificationTracer,
    inputs: Any,
    labels: Any,
    *,
    input_ids: Any,
    dataset_type: str,
    n_epoch: int | None,
    families: str,
    preprocess: Callable[[Any], Any] | None,
    normalize: tuple[Any, Any] | None,
    severities: Sequence[int],
    max_inputs: int,
    seed: int,
    progress: Progress,
) -> StressReceipt:
    """See `ClassificationTracer.stress`."""
    began = time.monotonic()
    targets = class_labels(labels)
    ids = normalise_input_ids(input_ids, len(targets))
    rows = _rows(inputs, len(targets))
    source = FamilySource.of(families, _reference(rows, ids, families, seed))
    plan = plan_stress(source.build(), input_ids=ids, severities=severities, max_inputs=max_inputs, seed=seed)
    keeps_shape = all(kind.keeps_shape for family in plan.families for kind in family.kinds)
    chosen = set(plan.input_ids)
    places = [place for place, input_id in enumerate(ids) if input_id in chosen]
    ready = _Pass(
        plan=plan,
        corruptor=Corruptor(
            families={family.name: family for family in plan.families},
            seed=seed,
            normalize=normalize,
            preprocess=preprocess,
            collate=stack_inputs(inputs, keeps_shape=keeps_shape or preprocess is None),
        ),
        inputs=[rows[place] for place in places],
        labels=targets[places],
        dataset=checked_dataset(dataset_type),
        n_epoch=checked_epoch(n_epoch),
        fingerprint=fingerprint(tracer.model),
    )
    return _run(tracer, ready, progress=progress, began=began)


def _run(tracer: ClassificationTracer, ready: _Pass, *, progress: Progress, began: float) -> StressReceipt:
    key = model_key(tracer.model_name, tracer.version_name)
    plan = ready.plan
    with _evaluating(tracer.model), StressStream(tracer, ready.stream_id(key)) as stream:
        known = min(stream.known, len(plan.sets))
        shown = sys.stderr.isatty() if progress is None else progress
        with reporting(shown, total=len(plan.sets), done=known, title=f"stress {key}") as advance:
            for number in range(known, len(plan.sets)):
                call = _call(tracer, ready, number)
                _check_weights(tracer.model, ready.fingerprint, done=number)
                stream.put(call)
                advance()
        stream.flush()
        rows = stream.count(plan.n_forwards)
        stream.complete(_receipt_columns(key, ready, rows=rows), fingerprint=ready.fingerprint)
        version, uri = stream.place
        return StressReceipt(
            rows=rows,
            inputs=len(plan.input_ids),
            sets=len(plan.sets),
            known_sets=known,
            families=tuple(family.name for family in plan.families),
            dataset=ready.dataset,
            n_epoch=ready.n_epoch,
            dropped=plan.n_forwards - rows,
            fingerprint=ready.fingerprint,
            stress_version=plan.version,
            stream_id=stream.stream_id,
            seconds=time.monotonic() - began,
            version=version,
            uri=uri,
        )


def _check_weights(model: Any, expected: str, *, done: int) -> None:
    """Refuse to go on when somebody trains the model meanwhile: its copies would be of two models."""
    if fingerprint(model) != expected:
        raise InvalidInputError(
            f"the model's weights changed during the stress pass; it has stopped after {done} sets, which no "
            "evaluation reads. Stress the model when its training has ended."
        )


def _receipt_columns(key: str, ready: _Pass, *, rows: int) -> Columns:
    return {
        "model_key": key,
        "dataset_type": ready.dataset,
        "n_epoch": ready.n_epoch,
        "purpose": "stress",
        "state": "complete",
        "last_seq": np.array([len(ready.plan.sets) - 1], np.int64),
        "rows": rows,
        "dropped": ready.plan.n_forwards - rows,
        "fingerprint": ready.fingerprint,
        "weights_changed": False,
        "note": None,
        "completed_at": microseconds(),
        "source": None,
    }


def _call(tracer: ClassificationTracer, ready: _Pass, number: int) -> StressCall:
    """Run the model on the copies of one set."""
    plan, one = ready.plan, ready.plan.sets[number]
    scores, features, hashes = [], [], []
    for part in _parts(len(ready.inputs)):
        with seeded(plan.seed, number * len(ready.inputs) + part.start):
            copies = ready.corruptor.corrupted(ready.inputs[part], plan.input_ids[part], one)
            hashes += input_hashes(copies, part.stop - part.start)  # before the pass: models edit inputs in place
            seen = tracer._probe.call(copies)
        found, feature = tracer._arrays(seen, ready.labels[part])
        scores.append(found)
        if feature is not None:
            features.append(feature)
    return StressCall(
        scores=np.concatenate(scores),
        feature=np.concatenate(features) if features else None,
        labels=ready.labels,
        input_ids=list(plan.input_ids),
        hashes=hashes,
        source_dataset=ready.dataset,
        n_epoch=ready.n_epoch,
        captured_at=microseconds(),
        fingerprint=ready.fingerprint,
        path=str(tracer._probe.path),
        feature_layer=tracer._probe.feature_layer,
        **_described(plan, one),
    )


def _described(plan: StressPlan, one: StressSet) -> dict[str, Any]:
    version = plan.family(one).version
    return {
        "family": one.family, "kind": one.kind, "severity": one.severity, "seed": plan.seed, "family_version": version
    }  # fmt: skip


def _rows(inputs: Any, n: int) -> Sequence[Any]:
    """Return inputs as something with one entry per input.

    Raises:
        InvalidInputError: They are not, or their number differs from the labels'.
    """
    is_sequence = hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__") and not isinstance(inputs, (dict, str))
    if not is_sequence:
        raise InvalidInputError(
            f"inputs are a {type(inputs).__name__}; nothing was recorded. Pass a tensor, an array or a list with one "
            "entry per input, before preprocessing."
        )
    if len(inputs) != n:
        raise InvalidInputError(f"{len(inputs)} inputs came with {n} labels; nothing was recorded.")
    if not n:
        raise InvalidInputError("no inputs were given; nothing was recorded. Pass labelled inputs of the reference.")
    found: Sequence[Any] = inputs
    return found


def _reference(rows: Sequence[Any], ids: Sequence[str], families: str, seed: int) -> list[Any]:
    """Return the inputs that describe the families: one, or enough rows of a table."""
    if families != "tabular":
        return [rows[0]]
    wanted = set(choose_inputs(ids, n=REFERENCE_ROWS, seed=seed))
    return [rows[place] for place, input_id in enumerate(ids) if input_id in wanted]


def _parts(n: int) -> list[slice]:
    return [slice(start, min(start + _BATCH, n)) for start in range(0, n, _BATCH)]


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Put a model into eval mode without gradients inside the block; every module gets its own mode back."""
    import torch

    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    modes = [(module, module.training) for module in modules]
    try:
        if modules:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
