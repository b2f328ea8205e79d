"""The two workers of a 3D trace run: one runs the detector, the other makes rows of its raw outputs.

The first holds the model, on a GPU where there is one; the second needs neither. What passes between them are raw
outputs as arrays, through shared memory.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters import fingerprint, unwrap
from mld_pipelines.adapters.detection3d import (
    GuardedDecoder,
    Setting,
    Settings3D,
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
    Segment,
    check_points,
    check_true_labels,
    detector_row,
    encode,
    metadata_rows,
    microseconds,
    recorded,
    settings_json,
    true_boxes,
)
from mld_pipelines.compute import WorkerSpec
from mld_pipelines.exceptions import ConfigurationError
from mld_pipelines.records import Truths3D
from mld_pipelines.tracing._frames import open_frames
from mld_pipelines.tracing._hints import told_where
from mld_pipelines.tracing._raw_frames import pack_frames, unpack_frames
from mld_pipelines.tracing._seeds import seeded
from mld_pipelines.tracing._worker import built_model, check_weights, moved, one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d import Frame3D, Raw
    from mld_pipelines.capture import Columns

__all__ = ["DetectionForwardWorker", "DetectionRowsWorker"]

_TRUTHS = ("offsets", "boxes", "labels", "velocities", "points")
_TRUTH, _YAWS, _SECONDS = "truth/", "given_yaws", "seconds"

_log = logging.getLogger("mld_pipelines.tracing")


class DetectionForwardWorker:
    """Runs a detector over ranges of a dataset, a frame at a time, and emits its raw outputs.

    One frame at a time: clouds are ragged, heads keep whole maps (6 MB a frame for CenterPoint), and a frame that
    breaks the model is found by its own error.

    Args:
        model_factory: `module:function` that returns a `torch.nn.Module`; it is put into eval mode.
        model_params: Keyword arguments of the factory.
        dataset_factory: `module:function` that returns frames (see `LabeledDataset`).
        dataset_params: Keyword arguments of the factory.
        seed: Seeds the factories, and with the first item of a batch every batch.
        device: Device to move the model to; None leaves it where the factory put it.
        expected: Fingerprint that the weights must have; None takes any.
        settings: What the registration says about the detector, see `Registration`.

    Raises:
        ConfigurationError: A factory returned something else, or the weights are not the expected ones.
        UnrecognisedModelError: No family of detectors accepts the model.
        InvalidInputError: The model does not say its range, and neither does the registration.
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
        expected: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = built_model(model_factory, model_params, seed=seed, device=device)
        weights = fingerprint(self._model)
        if expected is not None:
            check_weights(weights, expected)
        with seeded(seed):
            self._dataset = open_frames(dataset_factory, dataset_params)
        self._seed = seed
        said = dict(settings or {})
        with told_where():
            self._adapter = recognise(self._model, said.get("architecture"), convention=said.get("box_convention"))
            self._settings = resolve_settings(self._adapter.settings, family=self._adapter.family, arguments=said)
        spec = self._adapter.decoder()
        names = agreed_class_names(
            self._model,
            self._dataset.class_names,
            remedy="Let the data set count as the model does; folders take ?classes=First,Second in the model's order.",
        )
        self._facts = {
            "fingerprint": weights,
            "architecture": type(unwrap(self._model)).__name__,
            "settings": settings_json(self._settings),
            "decoder": json.dumps({"target": spec.target, "params": dict(spec.params)}),
            "class_names": json.dumps(names),
        }

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return raw outputs, truths and identities of the frames from `start` to `stop`, and the seconds they took.

        Args:
            batch: `start` and `stop`.

        Raises:
            InvalidInputError: A frame or its target is malformed.
        """
        start, stop = int(batch["start"]), int(batch["stop"])
        began = time.perf_counter()
        with seeded(self._seed, start), one_thread():
            frames = self._dataset.read(start, stop)
            check_points(frames.inputs)
            given: list[NDArray[Any]] = []
            truths = true_boxes(frames.targets, len(frames.targets), see=given.append)
            columns = {f"{_TRUTH}{name}": getattr(truths, name) for name in _TRUTHS}
            columns |= {name: np.array([value]) for name, value in self._facts.items()}
            columns[_YAWS] = np.concatenate([np.zeros(0), *(boxes[:, 6] for boxes in given)])
            columns["input_ids"] = np.array(frames.input_ids)
            columns["hashes"] = np.array([frame_hashes(one, 1)[0] for one in frames.inputs])
            rows = metadata_rows(frames.metadata, len(frames.targets)) or []
            columns["metadata"] = np.array([row or "{}" for row in rows])
            columns |= pack_frames([self._raw(inputs) for inputs in frames.inputs])
        columns["adapter"] = np.array([f"{self._adapter.family} {self._adapter.convention}"])  # some learn it by a call
        columns[_SECONDS] = np.array([time.perf_counter() - began])
        return columns | {"captured_at": np.array([microseconds()], dtype=np.int64)}

    def _raw(self, inputs: Any) -> dict[str, NDArray[Any]]:
        import torch

        parameter = next(self._model.parameters(), None)
        with torch.inference_mode(), told_where():
            seen = observe(self._adapter, inputs if parameter is None else moved(inputs, parameter.device))
            return dict(to_arrays(seen.raw))


class DetectionRowsWorker:
    """Decodes raw outputs and packs the rows of a batch as one segment.

    Args:
        model_name: Model identifier of the traces.
        version_name: Version identifier of the traces.
        dataset_type: Name of the dataset in the traces.
        n_epoch: Epoch of the traces.
    """

    def __init__(self, *, model_name: str, version_name: str, dataset_type: str, n_epoch: int | None) -> None:
        self._identity = Identity(model_name, version_name, "od3d")
        self._dataset_type, self._n_epoch = dataset_type, n_epoch
        self._decoders: dict[str, Callable[[Raw], Sequence[Frame3D]]] = {}
        self._is_described = False
        self._adapter = "unknown"
        self._doubts = Doubts3D(lambda: self._adapter)

    def __call__(self, raw: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the rows of a batch as the bytes of a segment, and the seconds of both steps."""
        began = time.perf_counter()
        ids = raw["input_ids"].tolist()
        settings = _settings(_text(raw, "settings"))
        frames = [recorded(frame, settings) for frame in self._decoded(raw, len(ids))]
        truths = Truths3D(**{name: raw[f"{_TRUTH}{name}"] for name in _TRUTHS})
        check_true_labels(truths, frames, class_names=json.loads(_text(raw, "class_names")))
        self._warn(truths.boxes, raw, frames)
        call = DetectionTraceCall(
            frames=frames,
            truths=truths,
            input_ids=ids,
            hashes=raw["hashes"].tolist(),
            dataset_type=self._dataset_type,
            n_epoch=self._n_epoch,
            captured_at=int(raw["captured_at"][0]),
            fingerprint=_text(raw, "fingerprint"),
            adapter=_text(raw, "adapter"),
            settings=_text(raw, "settings"),
            metadata=[None if row == "{}" else row for row in raw["metadata"].tolist()],
            input_uris=None,
        )
        ((_, columns),) = DetectionTraceEncoder(self._identity)([call])
        segment = encode(Segment("landing/traces", "", 0, 0, len(ids), False, columns))
        packed = {"segment": np.frombuffer(segment, np.uint8), "fingerprint": np.array([call.fingerprint])}
        packed |= self._described(columns, raw)
        return packed | {_SECONDS: np.append(raw[_SECONDS], time.perf_counter() - began)}

    def _warn(self, truths: NDArray[np.float64], raw: Mapping[str, NDArray[Any]], frames: Sequence[Frame3D]) -> None:
        """Tell what looks wrong and breaks no rule, each once per worker."""
        self._adapter = _text(raw, "adapter")
        self._doubts.see_targets(np.column_stack([truths[:, :6], raw[_YAWS]]))
        self._doubts.see_found(frames)
        for doubt in self._doubts.news():
            _log.warning("%s: %s", self._identity.model_name, doubt)

    def _decoded(self, raw: Mapping[str, NDArray[Any]], n: int) -> list[Frame3D]:
        name = _text(raw, "decoder")
        if name not in self._decoders:
            spec = json.loads(name)
            self._decoders[name] = GuardedDecoder(WorkerSpec(spec["target"], spec["params"]))
        decode = self._decoders[name]
        frames: list[Frame3D] = []
        for one in unpack_frames(raw, n):
            frames += decode(one)
        if len(frames) != n:
            raise ConfigurationError(f"the detector's output holds {len(frames)} frames for {n} inputs.")
        return frames

    def _described(self, columns: Columns, raw: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the row of `landing/models`, once per worker: with the first frames in which something was found."""
        row = None
        if not self._is_described:
            names = json.loads(_text(raw, "class_names"))
            architecture = _text(raw, "architecture")
            row = detector_row(self._identity, columns, architecture=architecture, class_names=names)
        if row is None:
            return {}
        self._is_described = True
        row.pop("head")
        return {"model_row": np.array([json.dumps(row)])}


def _text(raw: Mapping[str, NDArray[Any]], name: str) -> str:
    return str(raw[name][0])


def _settings(text: str) -> Settings3D:
    return Settings3D(**{name: Setting(**value) for name, value in json.loads(text).items()})
