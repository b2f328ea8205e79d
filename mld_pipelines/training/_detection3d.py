"""`ObjectDetection3DTracer`: records what a 3D detector finds in labelled frames."""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters import unwrap
from mld_pipelines.adapters.detection3d import (
    GuardedDecoder,
    agreed_class_names,
    frame_hashes,
    observe,
    recognise,
    resolve_settings,
    to_arrays,
)
from mld_pipelines.capture import (
    DetectionTraceCall,
    DetectionTraceEncoder,
    Doubts3D,
    Identity,
    check_points,
    check_true_labels,
    count_classes,
    metadata_rows,
    microseconds,
    model_row,
    recorded,
    settings_json,
    true_boxes,
)
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import normalise_input_ids
from mld_pipelines.training._arguments import checked_dataset, checked_epoch, checked_uris
from mld_pipelines.training._tracer import ROW_BYTES, Tracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.adapters.detection3d import Frame3D, Settings3D
    from mld_pipelines.capture import Columns
    from mld_pipelines.records import Truths3D

__all__ = ["Detection3DTracer", "ObjectDetection3DTracer"]

_log = logging.getLogger("mld_pipelines.training")


def ObjectDetection3DTracer(  # noqa: N802, PLR0917 - name and order of the original's factory
    model: Any,
    model_name: str,
    version_name: str,
    score_thresh: float | None = None,
    iou_thresh: float | None = None,
    max_detections_per_frame: int | None = None,
    pc_range: Sequence[float] | None = None,
    *,
    architecture: str | None = None,
    box_convention: str | None = None,
    class_names: Sequence[str] | None = None,
    stream_id: str | None = None,
) -> Detection3DTracer:
    """Return a tracer for a 3D detector, whose family is recognised by its head; its class is named after the family.

    Thresholds decide what is recorded, never what the model returns. Each is taken from the argument, else from the
    model, else from the fallback (0.1, 0.2, 300); `tracer.settings` tells where each came from.

    Args:
        model: The detector, also inside DataParallel, DistributedDataParallel, `torch.compile` or a Lightning module.
        model_name: Model identifier, the same for tracer, evaluator and logger.
        version_name: Version identifier.
        score_thresh: Lowest score recorded.
        iou_thresh: BEV IoU of the model's own suppression; recorded, never applied a second time.
        max_detections_per_frame: Most boxes recorded per frame, by score.
        pc_range: [x_min, y_min, z_min, x_max, y_max, z_max], metres; required where the model does not tell.
        architecture: Name of a family or architecture where looking is not enough, see docs/detectors.md.
        box_convention: Convention of the boxes the model returns, where its weights were trained under another one.
        class_names: Names of the classes by index; where the model knows them, they are taken from it.
        stream_id: Name of this stream of rows if it may be sent again, as at `ClassificationTracer`.

    Raises:
        UnrecognisedModelError: No family accepts the model, or several do; the message prints what was seen.
        InvalidInputError: An argument is not usable, or `pc_range` is nowhere to be found.
        ConfigurationError: `MLD_API_ENDPOINT` is no lake.
    """
    adapter = recognise(model, architecture, convention=box_convention)
    arguments = {
        "score_thresh": score_thresh,
        "iou_thresh": iou_thresh,
        "max_detections_per_frame": max_detections_per_frame,
        "pc_range": pc_range,
    }
    settings = resolve_settings(adapter.settings, family=adapter.family, arguments=arguments)
    return _kind_of(adapter.family)(
        model, model_name, version_name, adapter=adapter, settings=settings, class_names=class_names,
        stream_id=stream_id,
    )  # fmt: skip


class Detection3DTracer(Tracer):
    """Calls a 3D detector as its user would and records boxes, features, suppressed candidates and true boxes.

    Made by `ObjectDetection3DTracer`; named for `isinstance`.

    Args:
        model: The detector.
        model_name: Model identifier.
        version_name: Version identifier.
        adapter: Knows the family of the detector.
        settings: Thresholds as resolved.
        class_names: Names of the classes by index.
        stream_id: Name of the stream if it may be sent again.
    """

    def __init__(
        self,
        model: Any,
        model_name: str,
        version_name: str,
        *,
        adapter: Any,
        settings: Settings3D,
        class_names: Sequence[str] | None = None,
        stream_id: str | None = None,
    ) -> None:
        identity = Identity(model_name, version_name, "od3d")
        encoder = DetectionTraceEncoder(identity)
        names = agreed_class_names(model, class_names, remedy="Give class_names in the order of the model's labels.")
        super().__init__(model, identity, encoder, class_names=names, stream_id=stream_id)
        self.settings = settings
        self.adapter = adapter
        self._decode = GuardedDecoder(adapter.decoder())
        self._facts: tuple[int, int | None, str | None] | None = None
        self._doubts = Doubts3D(lambda: f"{adapter.convention} ({adapter.family})")

    def __call__(  # noqa: PLR0917 - the order of the original's call
        self,
        inputs: Any,
        targets: Any,
        input_ids: Any = None,
        dataset_type: str = "train",
        n_epoch: int | None = None,
        metadata: Any = None,
        input_uris: Any = None,
    ) -> Any:
        """Run the detector on frames and record them.

        Args:
            inputs: One (N, 4+) point tensor (one frame), a list of them, or the dict of the code base.
            targets: `boxes_3d` (N, 7) as [cx, cy, cz, w, l, h, yaw] (gravity centre, metres, radians), `labels_3d` (N,)
                and optionally `velocities` (N, 2), m/s, and `points` (N,), how many lie inside: a list of dicts or a
                dict of lists, per frame. A label of -1 is an object of a class the model does not know.
            input_ids: Ints or strings that name the frames for ever; one will do for one frame.
            dataset_type: Dataset the frames belong to.
            n_epoch: Epoch, to keep several apart.
            metadata: Scalars per frame by name.
            input_uris: Where the raw frames can be found again.

        Returns:
            The model's own output object.

        Raises:
            InvalidInputError: Inputs, targets, ids or output do not fit; nothing of the batch was recorded.
            StorageError: The spool cannot be written and the buffer is full.
        """
        check_points(inputs)
        n = self.adapter.call(inputs).frames
        truths = true_boxes(targets, n, see=self._doubts.see_targets)
        ids = normalise_input_ids(_listed(input_ids, n), n)
        dataset, epoch = checked_dataset(dataset_type), checked_epoch(n_epoch)
        rows, uris = metadata_rows(metadata, n), checked_uris(input_uris, n)
        hashes = frame_hashes(inputs, n)
        traced = self._opened(dataset, epoch)
        seen = observe(self.adapter, inputs)
        frames = [recorded(frame, self.settings) for frame in self._decoded(seen.raw, n)]
        self._check_labels(truths, frames)
        self._warn(frames)
        call = DetectionTraceCall(
            frames, truths, ids, hashes, dataset, epoch, microseconds(), traced.fingerprint,
            f"{self.adapter.family} {self.adapter.convention}", settings_json(self.settings), rows, uris,
        )  # fmt: skip
        if n:
            self._record(call, ids, hashes, size=_size(frames, truths), traced=traced)
        return seen.output

    @property
    def feature_layer(self) -> str | None:
        """Where features come from; None before the first box or without any."""
        return None if self._facts is None else self._facts[2]

    def _decoded(self, raw: Any, n: int) -> Sequence[Frame3D]:
        frames: Sequence[Frame3D] = self._decode(to_arrays(raw))
        if len(frames) != n:
            raise InvalidInputError(
                f"the model returned {len(frames)} frames for {n} inputs; this batch was not recorded. If its output "
                "is in order, name its family with architecture=."
            )
        return frames

    def _check_labels(self, truths: Truths3D, frames: Sequence[Frame3D]) -> None:
        """Learn what the model says about its classes, and refuse targets that name another class."""
        for frame in frames:
            if len(frame.boxes) and frame.labels.max() >= 0:
                width = None if frame.features is None else int(frame.features.shape[1])
                self._facts = count_classes([frame]) or int(frame.labels.max()) + 1, width, frame.feature_source
                break
        check_true_labels(truths, frames, class_names=self.class_names)

    def _warn(self, frames: Sequence[Frame3D]) -> None:
        """Tell what looks wrong and breaks no rule, each once."""
        self._doubts.see_found(frames)
        for doubt in self._doubts.news():
            _log.warning("%s: %s", self.model_name, doubt)

    def _model_columns(self, key: str) -> Columns | None:
        """See `Tracer`."""
        if self._facts is None:
            return None
        n_classes, feature_dim, feature_layer = self._facts
        return model_row(
            self._identity,
            architecture=type(unwrap(self.model)).__name__,
            fingerprint=key,
            output_kind=None,
            feature_layer=feature_layer,
            feature_dim=feature_dim,
            n_classes=len(self.class_names) if self.class_names is not None else n_classes,
            class_names=self.class_names,
        )


@cache
def _kind_of(family: str) -> type[Detection3DTracer]:
    """Return the class of a family's tracers: what they do is the same, which detector they trace the name tells."""
    name = "".join(part.capitalize() for part in re.split(r"\W+", family)) + "Tracer"
    return type(name, (Detection3DTracer,), {"__doc__": f"Traces detectors of the family {family}."})


def _listed(input_ids: Any, n: int) -> Any:
    """Return ids as a sequence: one frame may be named by one id."""
    is_one = isinstance(input_ids, (str, int, np.integer)) or getattr(input_ids, "ndim", 1) == 0
    return [input_ids] if n == 1 and is_one else input_ids


def _size(frames: Sequence[Frame3D], truths: Truths3D) -> int:
    """Return the bytes of a call."""
    arrays: list[Any] = [truths.boxes, truths.velocities, truths.labels]
    for frame in frames:
        arrays += [frame.boxes, frame.velocities, frame.scores, frame.labels]
        arrays += [one for one in (frame.class_scores, frame.features) if one is not None]
        if frame.candidates is not None:
            arrays += [frame.candidates.boxes, frame.candidates.scores]
    return int(sum(array.nbytes for array in arrays)) + ROW_BYTES * len(frames)
