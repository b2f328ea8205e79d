"""Outputs of the trained models on clean and on corrupted inputs, kept in the build folder between runs."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.stress import StressSet

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from benchmarks.estimation._networks import Network

    Arrays = dict[str, NDArray[Any]]

__all__ = ["ModelOutputs", "Outputs", "Protocol", "outputs_of"]

_CACHE = Path(__file__).resolve().parents[2] / "build" / "estimation"
_VERSION = 1
"""Raised with every change of data, networks or training: outputs of another version are not read."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How large a run is.

    Attributes:
        severities: Of the corrupted held-out inputs.
        stress_inputs: Reference inputs that the stress pass copies.
        epochs: None trains as long as the protocol says.
        held_out: Most held-out units; None keeps all.
        stride: Each corrupted set holds every such held-out unit, another first one in turn.
    """

    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    stress_inputs: int = 400
    epochs: int | None = None
    held_out: int | None = None
    stride: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a model made of some inputs: features (N, d), logits (N, K), labels (N,)."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def errors(self) -> NDArray[np.bool_]:
        """True where the prediction is wrong, `(N,)`."""
        return np.asarray(self.logits.argmax(axis=1) != self.labels)

    def take(self, rows: NDArray[np.integer] | slice) -> Outputs:
        """The units at these rows."""
        return Outputs(self.features[rows], self.logits[rows], self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutputs:
    """One model's outputs.

    Attributes:
        name: Kind and seed, e.g. `p0`.
        weight: Of the last layer, `(K, d)`.
        bias: `(K,)`.
        train: Training units.
        reference: Reference units.
        held_out: Clean units of the windows.
        corrupted: Held-out units under every kind and severity.
        copies: The stress pass: `copied_rows` of the reference under every kind at severities 1, 3 and 5.
        copied_rows: Reference rows, `(v,)`.
        planted: What was planted in each held-out unit, or None.
        seconds: CPU time of training and running.
    """

    name: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    train: Outputs
    reference: Outputs
    held_out: Outputs
    corrupted: dict[StressSet, Outputs]
    copies: dict[StressSet, Outputs]
    copied_rows: NDArray[np.int64]
    planted: NDArray[np.int64] | None
    seconds: float

    @property
    def families(self) -> tuple[str, ...]:
        """Corruption families."""
        return tuple(sorted({one.family for one in self.corrupted}))


def outputs_of(name: str, protocol: Protocol) -> ModelOutputs:
    """Train a model and run it on everything, or read what an earlier run of the same code left.

    Args:
        name: Kind and seed.
        protocol: Sizes.
    """
    path = _CACHE / f"{name}-{_digest(protocol)}.npz"
    if path.exists():
        with np.load(path) as stored:
            return _unpack(name, dict(stored))
    began = time.process_time()
    arrays = _generate(name, protocol)
    arrays["seconds"] = np.array(time.process_time() - began)
    _CACHE.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, allow_pickle=False, **arrays)
    part.replace(path)
    return _unpack(name, arrays)


def _digest(protocol: Protocol) -> str:
    """Twelve digits that change with what makes the outputs: this code's version, sizes, torch, stress families."""
    import torch

    from mld_pipelines.stress import TabularReference, find_families

    tables = TabularReference.fit(np.random.default_rng(0).normal(size=(8, 2)))
    families = (*find_families("image"), *find_families("tabular", reference=tables))
    kinds = [(one.name, one.version, kind.name) for one in families for kind in one.kinds]
    return hashlib.sha256(f"{_VERSION} {protocol} {torch.__version__} {kinds}".encode()).hexdigest()[:12]


def _generate(name: str, protocol: Protocol) -> Arrays:
    from benchmarks.estimation._corruptions import STRESS_SEVERITIES, chosen_rows, corrupt, families_of
    from benchmarks.estimation._datasets import load
    from benchmarks.estimation._networks import train

    data = load(name[0], int(name[1:]))
    network = train(name[0], data, seed=int(name[1:]), epochs=protocol.epochs)
    held_out = np.arange(data.splits["held_out"].start, len(data.labels))[: protocol.held_out]
    rows = np.array(chosen_rows(data.n_reference, n=protocol.stress_inputs))
    head = network.head
    arrays: Arrays = {
        "weight": head.weight.detach().numpy().astype(np.float64),
        "bias": head.bias.detach().numpy().astype(np.float64),
        "copied_rows": rows,
    }
    if data.planted is not None:
        arrays["planted"] = data.planted[held_out]
    splits = {"train": np.arange(data.n_train), "reference": data.n_train + np.arange(data.n_reference)}
    for part, chosen in {**splits, "held_out": held_out}.items():
        arrays |= _named(part, network, data.inputs[chosen], data.labels[chosen])
    turn = 0
    for family in families_of(data):
        for kind in family.kinds:
            path = f"{family.name}/{kind.name}"
            for level in protocol.severities:
                chosen = held_out[turn % protocol.stride :: protocol.stride]
                values = corrupt(family, kind.name, data.inputs[chosen], severity=level, seed=1)
                arrays |= _named(f"corrupted/{path}/{level}", network, values, data.labels[chosen])
                turn += 1
            for level in STRESS_SEVERITIES:
                chosen = data.n_train + rows
                values = corrupt(family, kind.name, data.inputs[chosen], severity=level, seed=0)
                arrays |= _named(f"copies/{path}/{level}", network, values, data.labels[chosen])
    return arrays


def _named(name: str, network: Network, inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Arrays:
    """The network's outputs as arrays of a name."""
    from benchmarks.estimation._networks import run

    features, logits = run(network, inputs)
    return {f"{name}|features": features, f"{name}|logits": logits, f"{name}|labels": labels}


def _unpack(name: str, arrays: Arrays) -> ModelOutputs:
    def part(place: str) -> Outputs:
        return Outputs(*(arrays[f"{place}|{column}"] for column in ("features", "logits", "labels")))

    def sets(place: str) -> dict[StressSet, Outputs]:
        found = [key.split("|")[0] for key in arrays if key.startswith(f"{place}/") and key.endswith("|labels")]
        return {
            StressSet(path.split("/")[1], path.split("/")[2], int(path.split("/")[3])): part(path) for path in found
        }

    return ModelOutputs(
        name=name,
        weight=arrays["weight"],
        bias=arrays["bias"],
        train=part("train"),
        reference=part("reference"),
        held_out=part("held_out"),
        corrupted=sets("corrupted"),
        copies=sets("copies"),
        copied_rows=arrays["copied_rows"],
        planted=arrays.get("planted"),
        seconds=float(arrays.get("seconds", 0.0)),
    )
