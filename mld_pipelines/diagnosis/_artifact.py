"""Estimator state as bytes: safetensors for arrays, JSON for everything else, never pickle.

Loading runs no code from the artifact. The same state always gives the same bytes, so a digest of the
bytes identifies the state.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from mld_pipelines.exceptions import CorruptArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Artifact", "load_artifact", "pack_artifact", "unpack_artifact"]

State = TypeVar("State")

#: Largest artifact accepted. 1,000 classes, 2,048 features and 10,000 neighbours need 141 MB (measured).
MAX_ARTIFACT_BYTES = 512 * 2**20
#: safetensors itself refuses longer headers.
MAX_HEADER_BYTES = 100_000_000
#: One metadata entry only: with several, safetensors writes them in hash order and the bytes would vary.
METADATA_KEY = "mld_pipelines"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What an artifact holds.

    Attributes:
        kind: What the state is, e.g. `"estimator"`.
        version: Format version of that kind.
        tensors: Named arrays.
        parameters: JSON values.
    """

    kind: str
    version: int
    tensors: dict[str, npt.NDArray[Any]]
    parameters: dict[str, Any]


def pack_artifact(
    kind: str, version: int, *, tensors: Mapping[str, npt.NDArray[Any]], parameters: Mapping[str, Any]
) -> bytes:
    """Serialise arrays and JSON parameters; equal input gives equal bytes.

    Args:
        kind: What the state is; checked when it is read back.
        version: Format version of that kind; newer ones are refused by older code.
        tensors: Arrays of bool, integer or float dtype, any shape.
        parameters: JSON-serialisable values; floats keep all bits, NaN and infinity are refused.
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    content = {"kind": kind, "version": version, "parameters": dict(parameters)}
    text = _canonical({**content, "sha256": _digest(content, arrays)})
    return bytes(save(arrays, metadata={METADATA_KEY: text}))


def unpack_artifact(data: bytes, *, kind: str, version: int) -> Artifact:
    """Read what `pack_artifact` wrote.

    Args:
        data: The bytes.
        kind: The kind expected.
        version: The newest format version the caller understands.

    Raises:
        CorruptArtifactError: The bytes are damaged, are no artifact of this package, hold another kind,
            or come from newer code.
    """
    header = _read_header(data)
    if header["kind"] != kind:
        raise CorruptArtifactError(
            f"the artifact holds {header['kind']!r}, expected {kind!r}; nothing was loaded. Read it under its own kind."
        )
    if header["version"] > version:
        raise CorruptArtifactError(
            f"the {kind} artifact has format {header['version']}, this code reads up to {version}; nothing was "
            "loaded. Upgrade mld-pipelines, or evaluate the model again with this version."
        )
    arrays = _read_tensors(data)
    if _digest({name: header[name] for name in ("kind", "version", "parameters")}, arrays) != header["sha256"]:
        raise _corrupt("its checksum does not match its content")
    return Artifact(kind, header["version"], arrays, header["parameters"])


def load_artifact(
    data: bytes,
    *,
    kind: str,
    version: int,
    build: Callable[[dict[str, npt.NDArray[Any]], dict[str, Any]], State],
    remedy: str = "Evaluate the model again.",
) -> State:
    """Build what an artifact holds the state of.

    Args:
        data: The bytes.
        kind: The kind expected.
        version: The newest format version the caller understands.
        build: From arrays and parameters, both the caller's to change, to the object.
        remedy: What to do where the state does not fit.

    Raises:
        CorruptArtifactError: As in `unpack_artifact`, or the state does not fit this code.
    """
    artifact = unpack_artifact(data, kind=kind, version=version)
    try:
        return build(dict(artifact.tensors), dict(artifact.parameters))
    except (KeyError, TypeError, ValueError) as error:
        detail = f"it lacks {error}" if isinstance(error, KeyError) else f"{error}"
        raise CorruptArtifactError(
            f"the {kind} artifact does not fit this code ({detail}); nothing was loaded. {remedy}"
        ) from error


def _read_header(data: bytes) -> dict[str, Any]:
    """Metadata of the artifact, checked before any array is touched."""
    if len(data) > MAX_ARTIFACT_BYTES:
        raise _corrupt(f"{len(data):,} bytes exceed the limit of {MAX_ARTIFACT_BYTES:,}")
    if len(data) < 8:
        raise _corrupt(f"{len(data)} bytes are too few for a header")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise _corrupt("the header is longer than the artifact")
    try:
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA_KEY])
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt("its header was not written by this package") from error
    wanted = {"kind": str, "version": int, "parameters": dict, "sha256": str}
    if not isinstance(header, dict) or not all(isinstance(header.get(key), type_) for key, type_ in wanted.items()):
        raise _corrupt("its header lacks kind, version, parameters or checksum")
    return header


def _read_tensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise _corrupt(f"its arrays cannot be read ({error})") from error


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(content: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256(_canonical(content).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _corrupt(detail: str) -> CorruptArtifactError:
    return CorruptArtifactError(
        f"the artifact cannot be read: {detail}; nothing was loaded. Restore it from an earlier table version, "
        "or evaluate the model again."
    )
