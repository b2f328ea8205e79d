"""What a stress pass runs: which inputs, which corruptions, at what cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.stress._family import SEVERITIES
from mld_pipelines.stress._registry import check_unique
from mld_pipelines.stress._seeding import digest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mld_pipelines.stress._family import Family

__all__ = ["MAX_INPUTS", "StressPlan", "StressSet", "choose_inputs", "plan_stress", "stress_version"]

#: Inputs of a stress pass: with 100 the estimate is no better than without one (measured, four models), 400 suffice.
MAX_INPUTS = 400
#: Severities of a stress pass.
USED_SEVERITIES = (1, 3, 5)


@dataclass(frozen=True, slots=True, order=True)
class StressSet:
    """All chosen inputs under one kind at one severity."""

    family: str
    kind: str
    severity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StressPlan:
    """A stress pass before it runs.

    Attributes:
        families: What corrupts.
        sets: What is run, in this order.
        input_ids: The chosen inputs, in the order they were given.
        seed: Seed of the choice and of every corruption.
    """

    families: tuple[Family, ...]
    sets: tuple[StressSet, ...]
    input_ids: tuple[str, ...]
    seed: int

    @property
    def n_forwards(self) -> int:
        """Inputs that the model has to see."""
        return len(self.sets) * len(self.input_ids)

    @property
    def version(self) -> str:
        """Twelve hexadecimal digits that change with families, severities or seed: the stress version of a fit."""
        families = [(family.name, family.version) for family in self.families]
        return stress_version(families, [(s.family, s.kind, s.severity) for s in self.sets], seeds=[self.seed])

    def seconds(self, *, measured_seconds: float, measured_inputs: int) -> float:
        """Return the expected duration, from that of running and corrupting some inputs.

        Raises:
            InvalidInputError: Nothing was measured.
        """
        if measured_inputs < 1 or not measured_seconds >= 0.0:
            raise InvalidInputError(
                f"{measured_inputs} inputs took {measured_seconds} s; no cost follows. Measure a few batches first."
            )
        return measured_seconds / measured_inputs * self.n_forwards

    def remaining(self, done: Collection[tuple[str, int]]) -> tuple[StressSet, ...]:
        """Return the sets still to run, in order, after those in `done`, (kind, severity) each."""
        finished = set(done)
        return tuple(one for one in self.sets if (one.kind, one.severity) not in finished)

    def family(self, stress_set: StressSet) -> Family:
        """Return the family of one of the sets."""
        return next(family for family in self.families if family.name == stress_set.family)


def plan_stress(
    families: Sequence[Family],
    *,
    input_ids: Sequence[str],
    severities: Sequence[int] = USED_SEVERITIES,
    max_inputs: int = MAX_INPUTS,
    seed: int = 0,
) -> StressPlan:
    """Plan a stress pass over the families' kinds.

    Args:
        families: From `find_families`, or the user's own.
        input_ids: All labelled inputs of the reference.
        severities: Ascending selection of 1 to 5.
        max_inputs: Most inputs to use.
        seed: Seed of the choice and of every corruption.

    Raises:
        InvalidInputError: Names repeat, a severity is unknown, the seed is no whole number, or there are no inputs.
    """
    check_unique(families)
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise InvalidInputError(f"seed is {seed!r}; nothing was planned. Give a whole number.")
    if not isinstance(severities, Iterable):
        raise InvalidInputError(f"severities are {severities!r}; nothing was planned. Give several, such as (1, 3, 5).")
    if not severities or not set(severities) <= set(SEVERITIES) or len(set(severities)) < len(severities):
        raise InvalidInputError(
            f"severities are {tuple(severities)}; nothing was planned. Choose from 1, 2, 3, 4, 5, each once."
        )
    sets = tuple(
        StressSet(family.name, kind.name, severity)
        for family in families
        for kind in family.kinds
        for severity in sorted(severities)
    )
    chosen = set(choose_inputs(input_ids, n=max_inputs, seed=seed))
    ordered = tuple(input_id for input_id in input_ids if input_id in chosen)
    return StressPlan(families=tuple(families), sets=sets, input_ids=ordered, seed=seed)


def stress_version(
    families: Iterable[tuple[str, str]], sets: Iterable[tuple[str, str, int]], *, seeds: Iterable[int]
) -> str:
    """Return the version of stressed copies, in whatever order they come: twelve hexadecimal digits.

    Args:
        families: (name, version) of each family.
        sets: (family, kind, severity) of each set.
        seeds: Of the passes that made them.
    """
    return digest(sorted(families), sorted(sets), sorted(seeds)).hex()[:12]


def choose_inputs(input_ids: Sequence[str], *, n: int = MAX_INPUTS, seed: int) -> list[str]:
    """Return the n inputs with the smallest SHA-256(seed‖input_id), in the order of the hash; all if there are fewer.

    The choice does not depend on the order of the ids, and inputs that arrive later displace few.

    Args:
        input_ids: Distinct ids.
        n: Most inputs to choose.
        seed: Written in decimal before the id.

    Raises:
        InvalidInputError: No ids, an id twice, or n below 1.
    """
    if not len(input_ids):
        raise InvalidInputError("there are no inputs; nothing was chosen. Pass labelled inputs of the reference.")
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise InvalidInputError(f"{n!r} inputs are to be chosen; nothing was chosen. Give a whole number from 1.")
    if len(set(input_ids)) < len(input_ids):
        raise InvalidInputError(
            f"{len(input_ids) - len(set(input_ids))} input ids occur more than once; nothing was chosen. Give every "
            "input an id of its own."
        )
    return sorted(input_ids, key=lambda input_id: hashlib.sha256(f"{seed}{input_id}".encode()).digest())[:n]
