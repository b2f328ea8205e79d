"""`ClassificationTracer`: records what a classifier does with labelled inputs."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters import Probe, input_hashes, pooled, unwrap
from mld_pipelines.capture import (
    Identity,
    TraceCall,
    TraceEncoder,
    class_labels,
    float_array,
    metadata_rows,
    microseconds,
    model_row,
)
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import normalise_input_ids
from mld_pipelines.training._arguments import (
    checked_dataset,
    checked_epoch,
    checked_range,
    checked_uris,
)
from mld_pipelines.training._tracer import ROW_BYTES, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mld_pipelines.adapters import Seen
    from mld_pipelines.capture import Columns
    from mld_pipelines.tracing import Progress
    from mld_pipelines.training._stress_receipt import StressReceipt

__all__ = ["ClassificationTracer"]

_log = logging.getLogger("mld_pipelines.training")


class ClassificationTracer(Tracer):
    """Calls a model as `model(inputs)` would and records outputs, features and labels.

    The model is not changed: mode, gradients, weights and inputs stay as they are, and hooks exist only during a call.
    Rows are in the lake, complete and readable, when `wait_for_save` returns.

    Args:
        model: `torch.nn.Module` (or what `torch.compile`, DataParallel and DistributedDataParallel make of one).
        model_name: Model identifier, the same for tracer, evaluator and logger.
        version_name: Version identifier.
        feature_layer: Path of the module whose input is the feature; default the head, which is found.
        class_names: Names of the classes by index.
        stream_id: Name of this stream of rows if it may be sent again, e.g. by a repeated script: the same calls are
            then recognised and stored once. Default: a new stream.

    Raises:
        InvalidInputError: A name or `feature_layer` is not usable.
        ConfigurationError: `MLD_API_ENDPOINT` is no lake.
    """

    def __init__(
        self,
        model: Any,
        model_name: str,
        version_name: str,
        *,
        feature_layer: str | None = None,
        class_names: Sequence[str] | None = None,
        stream_id: str | None = None,
    ) -> None:
        identity = Identity(model_name, version_name)
        self._probe = Probe(model, feature_layer=feature_layer)
        self._encoder = TraceEncoder(identity)
        super().__init__(model, identity, self._encoder, class_names=class_names, stream_id=stream_id)
        self._shape: tuple[int, int | None] | None = None
        self._has_warned = False

    def __call__(  # noqa: PLR0917 - the order of the original's call
        self,
        inputs: Any,
        labels: Any,
        input_ids: Any = None,
        dataset_type: str = "train",
        n_epoch: int | None = None,
        metadata: Any = None,
        input_uris: Any = None,
        **model_arguments: Any,
    ) -> Any:
        """Run the model on a batch and record it.

        Args:
            inputs: The model's input, a batch of N.
            labels: N class indices.
            input_ids: N ints or strings that name the inputs for ever.
            dataset_type: Dataset the inputs belong to.
            n_epoch: Epoch, to keep several apart.
            metadata: Scalars per input by name, see `get_view(groupby=…)`.
            input_uris: Where the N raw inputs can be found again.
            **model_arguments: Passed on to the model.

        Returns:
            The model's own output object.

        Raises:
            InvalidInputError: Lengths, labels or output do not fit, or the tracer is closed; nothing of the batch was
                recorded.
            StorageError: The spool cannot be written and the buffer is full.
        """
        targets = class_labels(labels)
        n = len(targets)
        ids = normalise_input_ids(input_ids, n)
        dataset, epoch = checked_dataset(dataset_type), checked_epoch(n_epoch)
        rows, uris = metadata_rows(metadata, n), checked_uris(input_uris, n)
        hashes = input_hashes({**model_arguments, "inputs": inputs} if model_arguments else inputs, n)
        traced = self._opened(dataset, epoch)
        seen = self._probe.call(inputs, **model_arguments)
        scores, feature = self._arrays(seen, targets)
        if n:
            call = TraceCall(
                scores, feature, targets, ids, hashes, dataset, epoch, microseconds(), traced.fingerprint,
                str(self._probe.path), self._probe.feature_layer, rows, uris,
            )  # fmt: skip
            size = scores.nbytes + (0 if feature is None else feature.nbytes) + ROW_BYTES * n
            self._record(call, ids, hashes, size=size, traced=traced)
        return seen.output

    def stress(
        self,
        inputs: Any,
        labels: Any,
        *,
        input_ids: Any,
        dataset_type: str = "val",
        n_epoch: int | None = None,
        families: str = "image",
        preprocess: Callable[[Any], Any] | None = None,
        normalize: tuple[Any, Any] | None = None,
        severities: Sequence[int] = (1, 3, 5),
        max_inputs: int = 400,
        seed: int = 0,
        progress: Progress = None,
    ) -> StressReceipt:
        """Run the model on corrupted copies of labelled inputs, so that its error estimate has seen a shift.

        The next evaluation learns from the copies how the estimate errs under shift, and says what it verified. The
        model runs in eval mode without gradients and is left as it was. Calling again with the same inputs and weights
        continues an interrupted pass, or runs nothing.

        Args:
            inputs: N inputs before preprocessing: tensor, array, or a list with one entry per input. Images hold [0, 1]
                (or 8-bit values), tables one row per input, points one scan (points, 3 or more columns) per input.
            labels: N class indices.
            input_ids: The ids that the inputs were traced by.
            dataset_type: Dataset that the inputs were traced as; it has to be the one that decides.
            n_epoch: Epoch, as it was traced.
            families: `"image"`, `"tabular"`, `"points"`, or `"module:function"` where the function returns one
                `stress.Family` or several.
            preprocess: Makes what the model takes of a batch of corrupted inputs.
            normalize: (mean, standard deviation), numbers or one per channel, that `inputs` have been normalised by.
            severities: Strengths, from 1 to 5.
            max_inputs: Most inputs to use; with 100 instead of 400 the estimate is no better than without a pass.
            seed: Seed of the choice of inputs and of every corruption.
            progress: Called with (finished sets, all sets); True draws a bar, False none; None draws one on a terminal.

        Returns:
            What was stored.

        Raises:
            InvalidInputError: An argument or an input cannot be used, e.g. images outside [0, 1] with neither
                preprocess nor normalize (nothing was recorded), or the weights changed during the pass.
            ConfigurationError: The families' function cannot be used, or another process runs the same pass.
            StorageError: The lake cannot be written; the copies wait in the spool.
        """
        from mld_pipelines.training._stress import stress

        self._forget_after_fork()
        return stress(
            self, inputs, labels, input_ids=input_ids, dataset_type=dataset_type, n_epoch=n_epoch, families=families,
            preprocess=preprocess, normalize=normalize, severities=severities, max_inputs=max_inputs, seed=seed,
            progress=progress,
        )  # fmt: skip

    @property
    def feature_layer(self) -> str | None:
        """Layer whose input is the feature; None before the first call or without one."""
        return self._probe.feature_layer

    def _arrays(self, seen: Seen, labels: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return scores and feature on the CPU, or refuse a batch whose parts do not fit."""
        n = len(labels)
        scores = float_array(seen.scores)
        if len(scores) != n:
            raise InvalidInputError(
                f"the model returned {len(scores)} rows for {n} labels and input_ids; this batch was not recorded."
            )
        checked_range(labels, scores.shape[1])
        if self.class_names is not None and len(self.class_names) != scores.shape[1]:
            raise InvalidInputError(
                f"class_names has {len(self.class_names)} names but the model returns {scores.shape[1]} classes; this "
                "batch was not recorded."
            )
        vector = None if seen.feature is None else pooled(seen.feature, n)
        if vector is None:
            self._say_without_features()
        feature = None if vector is None else float_array(vector)
        self._shape = scores.shape[1], None if feature is None else feature.shape[1]
        return scores, feature

    def _model_columns(self, key: str) -> Columns | None:
        """See `Tracer`."""
        if self._shape is None:
            return None
        n_classes, feature_dim = self._shape
        return model_row(
            self._identity,
            architecture=type(unwrap(self.model)).__name__,
            fingerprint=key,
            output_kind=self._encoder.output_kind,
            feature_layer=self.feature_layer,
            feature_dim=feature_dim,
            n_classes=n_classes,
            class_names=self.class_names,
            head=self._probe.head,
        )

    def _say_without_features(self) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        message = (
            f"no linear layer of {type(self.model).__name__} made its output: {self.model_name} is traced without "
            "features, so there will be no error codes. Pass feature_layer= to name the layer whose input to use."
        )
        _log.warning(message)
        warnings.warn(message, UserWarning, stacklevel=4)
